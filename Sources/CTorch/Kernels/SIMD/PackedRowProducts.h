// The products of RowProducts.h with rows of twelve bits a number (see PackedMatrix.cpp), decoded in registers: each sum is, to the bit, the one
// over the rows as they were, but for the few exceptions, which are added last. Included after RowProducts.h.

#if GRAFT_VARIANT >= 3

struct TwelveBitRows {
  const PackedRows& packed;
  int64_t first;

  GRAFT_INLINE int64_t rowBytes() const { return packed.rowBytes(); }
  GRAFT_INLINE TwelveBitRows from(int64_t row) const { return {packed, first + row}; }

  /// As of DenseRows; `column` is a multiple of 128.
  template <int rows, int vectors>
  GRAFT_INLINE void multiply(int64_t row, int64_t column, int64_t count, const c10::BFloat16* x, int64_t xRow, int64_t ahead,
                             Floats* kept) const {
    const uint8_t* from = packed.bytes + (first + row) * rowBytes() + column / 2 * 3;
    Exponents exponents[rows];
#pragma clang loop unroll(full)
    for (int r = 0; r < rows; ++r) exponents[r] = Exponents(packed.bases[first + row + r]);
    Floats sums[rows * vectors];
#pragma clang loop unroll(full)
    for (int i = 0; i < rows * vectors; ++i) sums[i] = kept[i];
    int64_t k = 0;
    for (; k + 128 <= count; k += 128, from += 192) {
      __m512i codes[rows];
#pragma clang loop unroll(full)
      for (int r = 0; r < rows; ++r) {
        codes[r] = _mm512_loadu_si512(from + r * rowBytes() + 128);
        if (ahead != 0)
#pragma clang loop unroll(full)
          for (int line = 0; line < 3; ++line) __builtin_prefetch(from + r * rowBytes() + ahead + 64 * line);
      }
#pragma clang loop unroll(full)
      for (int half = 0; half < 2; ++half) {
        multiplyGroup<rows, vectors>(from + 64 * half, codes, exponents, x + k + 64 * half, xRow, sums);
#pragma clang loop unroll(full)
        for (int r = 0; r < rows; ++r) codes[r] = _mm512_srli_epi16(codes[r], 4);
      }
    }
    if (k < count) {
      __m512i codes[rows];
#pragma clang loop unroll(full)
      for (int r = 0; r < rows; ++r) {
        const __m256i pairs = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + r * rowBytes() + 64));
        codes[r] = _mm512_inserti64x4(_mm512_castsi256_si512(pairs), _mm256_srli_epi16(pairs, 4), 1);
      }
      multiplyGroup<rows, vectors>(from, codes, exponents, x + k, xRow, sums);
    }
#pragma clang loop unroll(full)
    for (int i = 0; i < rows * vectors; ++i) kept[i] = sums[i];
  }

  /// to[v, r] += the products of the exceptions of `rows` rows.
  void addExceptions(int64_t rows, const c10::BFloat16* x, int64_t xRow, int64_t vectors, float* to, int64_t toRow) const {
    const int32_t* const starts = packed.exceptions + first;
    const int32_t* const list = packed.exceptions + packed.rows + 1;
    for (int64_t row = 0; row < rows; ++row)
      for (int32_t i = starts[row]; i < starts[row + 1]; ++i) {
        const auto exception = static_cast<uint32_t>(list[i]);
        const float number = std::bit_cast<float>(exception << 16);
        for (int64_t v = 0; v < vectors; ++v) to[v * toRow + row] += number * static_cast<float>(x[v * xRow + (exception >> 16)]);
      }
  }

 private:
  /// What a row's codes stand for, by the upper seven bits of the exponent and by its last, where bf16 has them.
  struct Exponents {
    __m512i upper, last;

    Exponents() = default;
    GRAFT_INLINE explicit Exponents(uint8_t base) {
      const __m128i codes = _mm_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
      const __m128i isNone = _mm_cmpeq_epi8(codes, _mm_setzero_si128());
      const __m128i exponents = _mm_andnot_si128(isNone, _mm_add_epi8(codes, _mm_set1_epi8(static_cast<char>(base))));
      upper = _mm512_broadcast_i32x4(_mm_and_si128(_mm_srli_epi16(exponents, 1), _mm_set1_epi8(0x7f)));
      last = _mm512_broadcast_i32x4(_mm_and_si128(_mm_slli_epi16(exponents, 7), _mm_set1_epi8(static_cast<char>(0x80))));
    }
  };

  /// sums[v, r] += row r · vector v over 64 numbers, whose codes lie in the lower halves of `codes`.
  template <int rows, int vectors>
  GRAFT_INLINE void multiplyGroup(const uint8_t* from, const __m512i* codes, const Exponents* exponents, const c10::BFloat16* x,
                                  int64_t xRow, Floats* sums) const {
    using Step = DotStep<c10::BFloat16>;
    const __m512i sign = _mm512_set1_epi8(static_cast<char>(0x80)), code = _mm512_set1_epi8(15);
    Step::Vector numbers[2][rows];
#pragma clang loop unroll(full)
    for (int r = 0; r < rows; ++r) {
      const __m512i bytes = _mm512_loadu_si512(from + r * rowBytes()), own = _mm512_and_si512(codes[r], code);
      // The sign beside the upper bits, the mantissa beside the last one.
      const __m512i upper =
          _mm512_ternarylogic_epi32(_mm512_shuffle_epi8(exponents[r].upper, own), bytes, sign, 0xf8);  // a | (b & c)
      const __m512i lower =
          _mm512_ternarylogic_epi32(_mm512_shuffle_epi8(exponents[r].last, own), bytes, sign, 0xf4);  // a | (b & ~c)
      numbers[0][r] = reinterpret_cast<Step::Vector>(_mm512_unpacklo_epi8(lower, upper));
      numbers[1][r] = reinterpret_cast<Step::Vector>(_mm512_unpackhi_epi8(lower, upper));
    }
#pragma clang loop unroll(full)
    for (int v = 0; v < vectors; ++v)
#pragma clang loop unroll(full)
      for (int half = 0; half < 2; ++half) {
        const auto vector = Step::at(x + v * xRow + 32 * half);
#pragma clang loop unroll(full)
        for (int r = 0; r < rows; ++r) Step::multiplyAdd(sums[v * rows + r], numbers[half][r], vector);
      }
  }
};

#endif

/// As `rowProducts`, of `rows` rows from `first` on, packed where that is given and this processor has it.
template <class T>
inline void rowProducts(const T* matrix, int64_t matrixRow, const PackedRows& packed, int64_t first, int64_t rows, const T* x,
                        int64_t xRow, int64_t vectors, int64_t depth, float* to, int64_t toRow) {
#if GRAFT_VARIANT >= 3
  if constexpr (std::is_same_v<T, c10::BFloat16>)
    if (packed.bytes != nullptr) {
      const TwelveBitRows numbers{packed, first};
      rowProducts(numbers, rows, x, xRow, vectors, depth, to, toRow);
      return numbers.addExceptions(rows, x, xRow, vectors, to, toRow);
    }
#endif
  rowProducts(DenseRows<T>{matrix + first * matrixRow, matrixRow}, rows, x, xRow, vectors, depth, to, toRow);
}
