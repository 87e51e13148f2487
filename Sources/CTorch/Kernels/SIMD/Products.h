// Small matrix products on packed blocks that lie in the first two cache levels. Included after Vectors.h, in each
// variant's namespace.
//
// C[m, n] += Σₖ A[m, k]·B[k, n], the lanes of a vector along n. Both operands are packed into 32-bit *words* that hold
// `depth` consecutive k: one float, or a pair of bf16 that one AVX-512 instruction multiplies and adds in fp32. A word
// of A is broadcast, so A may have any strides.

/// Words of one float: fp32 products, and bf16 ones where the processor has no bf16 dot product.
struct Single {
  using Word = float;
  static constexpr int depth = 1;
  using Vector = Floats;
  static GRAFT_INLINE void multiplyAdd(Floats& sum, Vector a, Vector b) { sum += a * b; }
};

#if GRAFT_VARIANT >= 3
/// Words of two bf16.
struct Pair {
  using Word = uint32_t;
  static constexpr int depth = 2;
  using Vector = Words;
  static GRAFT_INLINE void multiplyAdd(Floats& sum, Vector a, Vector b) {
    sum = reinterpret_cast<Floats>(
        _mm512_dpbf16_ps(reinterpret_cast<__m512>(sum), reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b)));
  }
};
#endif

template <class Unit>
GRAFT_INLINE typename Unit::Vector broadcast(const typename Unit::Word* word) {
  return typename Unit::Vector{} + *word;
}

/// Which part of the k axis a row strip needs, so that the triangle above the causal diagonal is not multiplied.
enum class Triangle {
  /// All of it.
  none,
  /// Row m needs k ≤ m + diagonal.
  below,
  /// Row m needs k ≥ m + diagonal.
  above,
};

template <class Unit, int rows, int vectors, bool accumulate>
GRAFT_INLINE void productTile(const typename Unit::Word* a, int64_t aRow, int64_t aStep, const typename Unit::Word* b,
                              int64_t bStep, int64_t steps, float* c, int64_t cRow) {
  Floats sums[rows][vectors];
#pragma clang loop unroll(full)
  for (int m = 0; m < rows; ++m)
#pragma clang loop unroll(full)
    for (int n = 0; n < vectors; ++n) sums[m][n] = accumulate ? load(c + m * cRow + n * lanes) : Floats{};
  for (int64_t step = 0; step < steps; ++step) {
    typename Unit::Vector right[vectors];
#pragma clang loop unroll(full)
    for (int n = 0; n < vectors; ++n) right[n] = loadBits<typename Unit::Vector>(b + step * bStep + n * lanes);
#pragma clang loop unroll(full)
    for (int m = 0; m < rows; ++m) {
      const auto left = broadcast<Unit>(a + m * aRow + step * aStep);
#pragma clang loop unroll(full)
      for (int n = 0; n < vectors; ++n) Unit::multiplyAdd(sums[m][n], left, right[n]);
    }
  }
#pragma clang loop unroll(full)
  for (int m = 0; m < rows; ++m)
#pragma clang loop unroll(full)
    for (int n = 0; n < vectors; ++n) store(c + m * cRow + n * lanes, sums[m][n]);
}

#if GRAFT_VARIANT >= 2
constexpr int tileRows = 4, tileVectors = 4;  // 16 of the 32 registers hold sums
#elif GRAFT_VARIANT == 1
constexpr int tileRows = 4, tileVectors = 1;  // a vector is two registers here: 8 of 16 hold sums
#else
constexpr int tileRows = 2, tileVectors = 1;
#endif

/// C[0..<m, 0..<16n] = (or, with `accumulate`, +=) A·B over `steps` words. `m` is a multiple of `tileRows`.
/// `diagonal` counts k, not words.
template <class Unit, bool accumulate, Triangle triangle = Triangle::none>
__attribute__((noinline)) void product(int64_t m, int64_t n, int64_t steps, const typename Unit::Word* a, int64_t aRow,
                                       int64_t aStep, const typename Unit::Word* b, int64_t bStep, float* c,
                                       int64_t cRow, int64_t diagonal = 0) {
  for (int64_t vector = 0; vector < n; vector += tileVectors) {
    const int64_t width = n - vector < tileVectors ? n - vector : tileVectors;
    for (int64_t row = 0; row < m; row += tileRows) {
      int64_t begin = 0, end = steps;
      if constexpr (triangle == Triangle::below) {
        const int64_t last = (row + tileRows + diagonal + Unit::depth - 1) / Unit::depth;
        end = last < 0 ? 0 : last < steps ? last : steps;
      }
      if constexpr (triangle == Triangle::above) {
        const int64_t first = (row + diagonal) / Unit::depth;
        begin = first < 0 ? 0 : first < steps ? first : steps;
      }
      const auto* left = a + row * aRow + begin * aStep;
      const auto* right = b + begin * bStep + vector * lanes;
      float* to = c + row * cRow + vector * lanes;
      switch (width) {
        case 1:
          productTile<Unit, tileRows, 1, accumulate>(left, aRow, aStep, right, bStep, end - begin, to, cRow);
          break;
#if GRAFT_VARIANT >= 2
        case 2:
          productTile<Unit, tileRows, 2, accumulate>(left, aRow, aStep, right, bStep, end - begin, to, cRow);
          break;
        case 3:
          productTile<Unit, tileRows, 3, accumulate>(left, aRow, aStep, right, bStep, end - begin, to, cRow);
          break;
        case 4:
          productTile<Unit, tileRows, 4, accumulate>(left, aRow, aStep, right, bStep, end - begin, to, cRow);
          break;
#endif
      }
    }
  }
}

// MARK: Packing

/// Rows of `size` numbers as rows of words, k along the row; rows `count..<padded` are zeros.
template <class Unit, class T>
inline void packRows(typename Unit::Word* to, int64_t toRow, const T* from, int64_t fromRow, int64_t count,
                     int64_t padded, int64_t size) {
  const int64_t words = size / Unit::depth;
  for (int64_t row = 0; row < padded; ++row) {
    auto* target = to + row * toRow;
    if (row >= count) {
      __builtin_memset(target, 0, toRow * sizeof(typename Unit::Word));
      continue;
    }
    if constexpr (sizeof(T) * Unit::depth == sizeof(typename Unit::Word)) {
      __builtin_memcpy(target, from + row * fromRow, size * sizeof(T));
    } else {
      for (int64_t i = 0; i < size; i += lanes) store(target + i, load(from + row * fromRow + i));
    }
    if (words < toRow) __builtin_memset(target + words, 0, (toRow - words) * sizeof(typename Unit::Word));
  }
}

/// The transpose of a 16 × 16 block of words.
template <class Word>
GRAFT_INLINE void transposeBlock(Word* to, int64_t toRow, const Word* from, int64_t fromRow) {
  Words r[lanes], s[lanes];
#pragma clang loop unroll(full)
  for (int i = 0; i < lanes; ++i) r[i] = loadBits<Words>(from + i * fromRow);
  // Four rounds, each exchanging halves, quarters, pairs and single words of two rows.
#define GRAFT_EXCHANGE(in, out, distance, low, high)                                        \
  _Pragma("clang loop unroll(full)") for (int i = 0; i < lanes; ++i) if (!(i & distance)) { \
    out[i] = __builtin_shufflevector(in[i], in[i + distance], low);                         \
    out[i + distance] = __builtin_shufflevector(in[i], in[i + distance], high);             \
  }
#define GRAFT_LIST(...) __VA_ARGS__
#define GRAFT_ROUND(in, out, distance, low, high) GRAFT_EXCHANGE(in, out, distance, GRAFT_LIST low, GRAFT_LIST high)
  GRAFT_ROUND(r, s, 8, (0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23),
              (8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31))
  GRAFT_ROUND(s, r, 4, (0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27),
              (4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31))
  GRAFT_ROUND(r, s, 2, (0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29),
              (2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31))
  GRAFT_ROUND(s, r, 1, (0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30),
              (1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31))
#undef GRAFT_ROUND
#undef GRAFT_LIST
#undef GRAFT_EXCHANGE
#pragma clang loop unroll(full)
  for (int i = 0; i < lanes; ++i) storeBits(to + i * toRow, r[i]);
}

/// to[c, r] = from[r, c]; both counts are multiples of 16.
template <class Word>
inline void transpose(Word* to, int64_t toRow, const Word* from, int64_t fromRow, int64_t rows, int64_t columns) {
  for (int64_t column = 0; column < columns; column += lanes)
    for (int64_t row = 0; row < rows; row += lanes)
      transposeBlock(to + column * toRow + row, toRow, from + row * fromRow + column, fromRow);
}

/// From rows of words with k along the row to rows of words with k down the rows (`depth` rows become one): the form of
/// B in a product whose k counts the rows. `columns` numbers per row, a multiple of 16·depth.
template <class Unit>
inline void packDown(typename Unit::Word* to, int64_t toRow, const typename Unit::Word* from, int64_t fromRow,
                     int64_t rows, int64_t columns) {
  if constexpr (Unit::depth == 1) {
    for (int64_t row = 0; row < rows; ++row)
      __builtin_memcpy(to + row * toRow, from + row * fromRow, columns * sizeof(typename Unit::Word));
  } else {
    for (int64_t row = 0; row < rows; row += 2)
      for (int64_t word = 0; word < columns / 2; word += lanes) {
        const Words upper = loadBits<Words>(from + row * fromRow + word);
        const Words lower = loadBits<Words>(from + (row + 1) * fromRow + word);
        const Words even = (upper & 0xffffu) | (lower << 16);
        const Words odd = (upper >> 16) | (lower & 0xffff0000u);
        auto* target = to + row / 2 * toRow + 2 * word;
        storeBits(target, __builtin_shufflevector(even, odd, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23));
        storeBits(target + lanes,
                  __builtin_shufflevector(even, odd, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31));
      }
  }
}

/// Stores 16 numbers of each of two consecutive k, lanes along the other axis, as words with k down the rows.
template <class Unit>
GRAFT_INLINE void storeDown(typename Unit::Word* to, int64_t toRow, Floats first, Floats second) {
  if constexpr (Unit::depth == 1) {
    store(to, first);
    store(to + toRow, second);
  } else {
    storeBits(to,
              __builtin_convertvector(narrow(first), Words) | (__builtin_convertvector(narrow(second), Words) << 16));
  }
}

/// Stores 16 consecutive k as words along the row.
template <class Unit>
GRAFT_INLINE void storeAlong(typename Unit::Word* to, Floats x) {
  if constexpr (Unit::depth == 1)
    store(to, x);
  else
    storeBits(to, narrow(x));
}
