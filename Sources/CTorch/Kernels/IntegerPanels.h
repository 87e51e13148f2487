// Products of bytes, as the first term of a matrix product (see MatrixProduct.cpp). Included by MatrixProductLoops.h, in each
// variant's namespace.

typedef uint8_t Bytes __attribute__((vector_size(16)));

/// sum += a · b over the four bytes of each word, those of a without a sign and those of b with one.
GRAFT_INLINE void multiplyAddBytes(Ints& sum, Words a, Words b) {
#if GRAFT_VARIANT >= 3
  sum = reinterpret_cast<Ints>(
      _mm512_dpbusd_epi32(reinterpret_cast<__m512i>(sum), reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(b)));
#else
#pragma clang loop unroll(full)
  for (int shift = 0; shift < 32; shift += 8)
    sum += reinterpret_cast<Ints>((a >> shift) & 0xffu) * (reinterpret_cast<Ints>(b << (24 - shift)) >> 24);
#endif
}

/// largest[i] = max(largest[i], |from[i]|)
template <class T>
inline void raiseMagnitudes(const T* from, int64_t count, float* largest) {
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    const Floats x = load(from + i);
    store(largest + i, maximum(load(largest + i), maximum(x, -x)));
  }
  if (i < count) {
    const Floats x = loadFirst(from + i, count - i);
    storeFirst(largest + i, maximum(loadFirst(largest + i, count - i), maximum(x, -x)), count - i);
  }
}

/// A row of numbers as bytes, 128 above their signed value, and what one of them counts; `scaled` is room for the numbers in fp32.
/// A NaN makes the scale one.
template <class T>
inline void quantizeToken(const T* from, int64_t count, const float* columnScales, float* scaled, uint8_t* to,
                          int64_t width, float* scale) {
  Floats most{};
  Ints isNaN{};
  for (int64_t i = 0; i < count; i += lanes) {
    const int64_t left = count - i;
    Floats x = left >= lanes ? load(from + i) : loadFirst(from + i, left);
    if (columnScales) x *= left >= lanes ? load(columnScales + i) : loadFirst(columnScales + i, left);
    store(scaled + i, x);
    isNaN |= x != x;
    most = maximum(most, maximum(x, -x));
  }
  const float top = largest(most);
  *scale = any(isNaN) ? __builtin_nanf("") : top / 127;
  const Floats factor = splat(top > 0 ? 127 / top : 0);
  // Adding 1.5·2²³ rounds to an integer, ties to even, and leaves it in the low bits.
  const Floats magic = splat(12582912.0f);
  for (int64_t i = 0; i < width; i += lanes) {
    const Floats x = load(scaled + i) * factor;
    const Floats shifted = x + magic;
    const Ints whole = reinterpret_cast<Ints>(shifted) - reinterpret_cast<Ints>(magic) + 128;
    const Bytes bytes = __builtin_convertvector(whole, Bytes);
    __builtin_memcpy(to + i, &bytes, width - i < lanes ? width - i : lanes);
  }
}

/// Packs columns `first ..< first + 32 · panels` of the depth `range` of the right factor, four numbers of the depth a word; before
/// them 128 times the sum of each column.
inline void packBytes(const IntegerOperand& operand, DepthRange range, int64_t first, int64_t panels, float* to,
                      int64_t toPanel) {
  constexpr int64_t depth = integerDepth, blockDepth = lanes * depth;
  const int64_t steps = (range.end - range.begin + depth - 1) / depth;
  auto* const words = reinterpret_cast<uint32_t*>(to) + panelColumns;
  if (operand.transposed) {
    // 16 rows of the factor, 64 bytes of each.
    alignas(64) uint8_t tile[lanes * blockDepth];
    uint32_t block[lanes * lanes];
    for (int64_t panel = 0; panel < panels; ++panel)
      for (int64_t half = 0; half < panelColumns; half += lanes) {
        const int8_t* rows[lanes];
        for (int64_t i = 0; i < lanes; ++i) rows[i] = operand.row(first + panel * panelColumns + half + i);
        uint32_t* target = words + panel * toPanel + half;
        for (int64_t step = 0; step < steps; step += lanes, target += lanes * panelColumns) {
          const int64_t k = range.begin + step * depth;
          const int64_t count = range.end - k < blockDepth ? range.end - k : blockDepth;
          for (int64_t i = 0; i < lanes; ++i) {
            uint8_t* const row = tile + i * blockDepth;
            if (!rows[i] || count < blockDepth) __builtin_memset(row, 0, blockDepth);
            if (rows[i] && count == blockDepth)
              __builtin_memcpy(row, rows[i] + k, blockDepth);
            else if (rows[i])
              __builtin_memcpy(row, rows[i] + k, count);
          }
          const auto* from = reinterpret_cast<const uint32_t*>(tile);
          if (step + lanes <= steps) {
            transposeBlock(target, panelColumns, from, lanes);
          } else {
            transposeBlock(block, lanes, from, lanes);
            for (int64_t i = 0; step + i < steps; ++i)
              storeBits(target + i * panelColumns, loadBits<Words>(block + i * lanes));
          }
        }
      }
  } else {
    for (int64_t step = 0; step < steps; ++step) {
      const int8_t* rows[depth];
      for (int64_t i = 0; i < depth; ++i) {
        const int64_t k = range.begin + step * depth + i;
        rows[i] = k < range.end ? operand.row(k) : nullptr;
      }
      for (int64_t panel = 0; panel < panels; ++panel)
        for (int64_t half = 0; half < panelColumns; half += lanes) {
          const int64_t column = first + panel * panelColumns + half, left = operand.columns - column;
          Words word{};
#pragma clang loop unroll(full)
          for (int i = 0; i < depth; ++i) {
            if (!rows[i] || left <= 0) continue;
            Bytes bytes{};
            if (left >= lanes)
              bytes = loadBits<Bytes>(rows[i] + column);
            else
              __builtin_memcpy(&bytes, rows[i] + column, left);
            word |= __builtin_convertvector(bytes, Words) << (8 * i);
          }
          storeBits(words + panel * toPanel + step * panelColumns + half, word);
        }
    }
  }
  const Words ones = Words{} + 0x01010101u;
  for (int64_t panel = 0; panel < panels; ++panel)
    for (int64_t half = 0; half < panelColumns; half += lanes) {
      Ints sum{};
      for (int64_t step = 0; step < steps; ++step)
        multiplyAddBytes(sum, ones, loadBits<Words>(words + panel * toPanel + step * panelColumns + half));
      storeBits(reinterpret_cast<int32_t*>(to) + panel * toPanel + half, sum * 128);
    }
}

/// The product of bytes for `rows` rows and some vectors of a packed panel, in `sums`. Returns where the panel's next term begins.
template <int rows, int vectors>
GRAFT_INLINE const float* integerTile(const IntegerOperand& operand, DepthRange range, int64_t row, const float* panel,
                                      int64_t column, int64_t columns, Floats (&sums)[rows][vectors]) {
  Ints integers[rows][vectors];
#pragma clang loop unroll(full)
  for (int m = 0; m < rows; ++m)
#pragma clang loop unroll(full)
    for (int n = 0; n < vectors; ++n) integers[m][n] = -loadBits<Ints>(panel + n * lanes);
  panel += panelColumns;
  const int64_t stride = operand.leftRow, steps = (range.end - range.begin + integerDepth - 1) / integerDepth;
  const uint8_t* a = operand.left + row * stride + range.begin;
  for (int64_t step = 0; step < steps; ++step, panel += panelColumns) {
    Words right[vectors];
#pragma clang loop unroll(full)
    for (int n = 0; n < vectors; ++n) right[n] = loadBits<Words>(panel + n * lanes);
#pragma clang loop unroll(full)
    for (int m = 0; m < rows; ++m) {
      const Words x = Words{} + loadBits<uint32_t>(a + m * stride + step * integerDepth);
#pragma clang loop unroll(full)
      for (int n = 0; n < vectors; ++n) multiplyAddBytes(integers[m][n], x, right[n]);
    }
  }
#pragma clang loop unroll(full)
  for (int n = 0; n < vectors; ++n) {
    const int64_t left = columns - n * lanes;
    const Floats scale = !operand.rightScales ? splat(1)
                         : left >= lanes      ? load(operand.rightScales + column + n * lanes)
                         : left > 0           ? loadFirst(operand.rightScales + column + n * lanes, left)
                                              : Floats{};
#pragma clang loop unroll(full)
    for (int m = 0; m < rows; ++m)
      sums[m][n] = __builtin_convertvector(integers[m][n], Floats) * (scale * splat(operand.leftScales[row + m]));
  }
  return panel;
}
