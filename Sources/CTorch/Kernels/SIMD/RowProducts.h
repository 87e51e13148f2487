// Dot products of the rows of a matrix with a few vectors, the matrix read once and as it lies: bound by memory, not by
// arithmetic. Included after Vectors.h, in each variant's namespace.

/// One step along a row: 16 numbers, multiplied in fp32.
template <class T>
struct DotStep {
  using Vector = Floats;
  static constexpr int64_t width = lanes;
  static GRAFT_INLINE Vector at(const T* from) { return load(from); }
  static GRAFT_INLINE Vector first(const T* from, int64_t count) { return loadFirst(from, count); }
  static GRAFT_INLINE void multiplyAdd(Floats& sum, Vector a, Vector b) { sum += a * b; }
};

#if GRAFT_VARIANT >= 3
/// 32 numbers of bf16, added in pairs in fp32.
template <>
struct DotStep<c10::BFloat16> {
  using Vector = Words;
  static constexpr int64_t width = 2 * lanes;
  static GRAFT_INLINE Vector at(const c10::BFloat16* from) { return loadBits<Words>(from); }
  static GRAFT_INLINE Vector first(const c10::BFloat16* from, int64_t count) {
    c10::BFloat16 part[width] = {};
    __builtin_memcpy(part, from, count * sizeof(c10::BFloat16));
    return at(part);
  }
  static GRAFT_INLINE void multiplyAdd(Floats& sum, Vector a, Vector b) {
    sum = reinterpret_cast<Floats>(
        _mm512_dpbf16_ps(reinterpret_cast<__m512>(sum), reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b)));
  }
};
#endif

/// Rows and vectors whose sums stay in registers together.
#if GRAFT_VARIANT >= 2
constexpr int64_t dotRows = 2, dotVectors = 8;
#elif GRAFT_VARIANT == 1
constexpr int64_t dotRows = 2, dotVectors = 2;
#else
constexpr int64_t dotRows = 1, dotVectors = 2;
#endif

/// Columns of several vectors, and rows, that are multiplied before the next columns: the vectors' stay in the first-level cache meanwhile.
constexpr int64_t dotColumns = 1024, dotBlockRows = 16;

/// How far ahead of its use the matrix is fetched: bytes for one vector, rows for several. The processor does so by itself, but not beyond
/// the end of a page, and too late where each number is used several times.
constexpr int64_t dotBytesAhead = 4096, dotRowsAhead = 2 * dotRows;

/// The sum of each of 16 vectors, in the order of additions that `sum` has.
GRAFT_INLINE Floats sumEach(const Floats* x) {
  Floats a[8], b[4], c[2];
#pragma clang loop unroll(full)
  for (int i = 0; i < 8; ++i)
    a[i] = __builtin_shufflevector(x[i], x[i + 8], 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23) +
           __builtin_shufflevector(x[i], x[i + 8], 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
#pragma clang loop unroll(full)
  for (int i = 0; i < 4; ++i)
    b[i] = __builtin_shufflevector(a[i], a[i + 4], 0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27) +
           __builtin_shufflevector(a[i], a[i + 4], 4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31);
#pragma clang loop unroll(full)
  for (int i = 0; i < 2; ++i)
    c[i] = __builtin_shufflevector(b[i], b[i + 2], 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29) +
           __builtin_shufflevector(b[i], b[i + 2], 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31);
  return __builtin_shufflevector(c[0], c[1], 0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30) +
         __builtin_shufflevector(c[0], c[1], 1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31);
}

/// sums[v, r] += row r · vector v over one step, or over its first `count` numbers. Fetches what lies `ahead` bytes behind the rows, where that
/// is not 0.
template <class T, int rows, int vectors, bool whole>
GRAFT_INLINE void dotStep(Floats* sums, const T* matrix, int64_t matrixRow, const T* x, int64_t xRow, int64_t count,
                          int64_t ahead) {
  using Step = DotStep<T>;
  typename Step::Vector row[rows];
#pragma clang loop unroll(full)
  for (int r = 0; r < rows; ++r) {
    row[r] = whole ? Step::at(matrix + r * matrixRow) : Step::first(matrix + r * matrixRow, count);
    if (ahead != 0) __builtin_prefetch(reinterpret_cast<const char*>(matrix + r * matrixRow) + ahead);
  }
#pragma clang loop unroll(full)
  for (int v = 0; v < vectors; ++v) {
    const auto vector = whole ? Step::at(x + v * xRow) : Step::first(x + v * xRow, count);
#pragma clang loop unroll(full)
    for (int r = 0; r < rows; ++r) Step::multiplyAdd(sums[v * rows + r], row[r], vector);
  }
}

/// Rows of numbers as they lie.
template <class T>
struct DenseRows {
  const T* numbers;
  int64_t row;  // distance between rows

  GRAFT_INLINE int64_t rowBytes() const { return row * static_cast<int64_t>(sizeof(T)); }
  GRAFT_INLINE DenseRows from(int64_t first) const { return {numbers + first * row, row}; }

  /// kept[v, r] += row r · vector v over `count` columns from `column` on, where x begins at the first of them.
  template <int rows, int vectors>
  GRAFT_INLINE void multiply(int64_t first, int64_t column, int64_t count, const T* x, int64_t xRow, int64_t ahead,
                             Floats* kept) const {
    constexpr int64_t width = DotStep<T>::width;
    const T* const matrix = numbers + first * row + column;
    Floats sums[rows * vectors];
#pragma clang loop unroll(full)
    for (int i = 0; i < rows * vectors; ++i) sums[i] = kept[i];
    int64_t k = 0;
    for (; k + width <= count; k += width)
      dotStep<T, rows, vectors, true>(sums, matrix + k, row, x + k, xRow, width, ahead);
    if (k < count) dotStep<T, rows, vectors, false>(sums, matrix + k, row, x + k, xRow, count - k, 0);
#pragma clang loop unroll(full)
    for (int i = 0; i < rows * vectors; ++i) kept[i] = sums[i];
  }
};

/// to[v, r] = the sum of sums[v, r].
template <int rows, int vectors>
GRAFT_INLINE void storeSums(const Floats* sums, float* to, int64_t toRow) {
  if constexpr (rows * vectors == lanes) {
    float each[lanes];
    store(each, sumEach(sums));
#pragma clang loop unroll(full)
    for (int v = 0; v < vectors; ++v) __builtin_memcpy(to + v * toRow, each + v * rows, rows * sizeof(float));
  } else {
#pragma clang loop unroll(full)
    for (int v = 0; v < vectors; ++v)
#pragma clang loop unroll(full)
      for (int r = 0; r < rows; ++r) to[v * toRow + r] = sum(sums[v * rows + r]);
  }
}

/// Calls `body` with the place of each tile of rows and, as a constant, their number.
template <class Body>
GRAFT_INLINE void forRowTiles(int64_t rows, const Body& body) {
  int64_t row = 0;
  for (; row + dotRows <= rows; row += dotRows) body(row, std::integral_constant<int, dotRows>());
  for (; row < rows; ++row) body(row, std::integral_constant<int, 1>());
}

/// to[v, r] = row r · vector v, for at most dotBlockRows rows. However many rows and vectors are taken together, each sum is the same to the
/// bit.
template <int vectors, class Matrix, class T>
inline void dotBlock(const Matrix& matrix, int64_t rows, const T* x, int64_t xRow, int64_t depth, int64_t ahead, float* to,
                     int64_t toRow) {
  if (depth <= dotColumns) {
    forRowTiles(rows, [&](int64_t row, auto count) {
      Floats sums[count * vectors] = {};
      matrix.template multiply<count, vectors>(row, 0, depth, x, xRow, ahead, sums);
      storeSums<count, vectors>(sums, to + row, toRow);
    });
    return;
  }
  Floats sums[dotBlockRows * vectors] = {};
  for (int64_t column = 0; column < depth; column += dotColumns)
    forRowTiles(rows, [&](int64_t row, auto count) {
      matrix.template multiply<count, vectors>(row, column, depth - column < dotColumns ? depth - column : dotColumns,
                                               x + column, xRow, ahead, sums + row * vectors);
    });
  forRowTiles(rows, [&](int64_t row, auto count) { storeSums<count, vectors>(sums + row * vectors, to + row, toRow); });
}

/// to[v, r] = row r of the matrix · vector v, for `rows` rows of `depth` numbers and `vectors` vectors.
template <class Matrix, class T>
inline void rowProducts(const Matrix& matrix, int64_t rows, const T* x, int64_t xRow, int64_t vectors, int64_t depth,
                        float* to, int64_t toRow) {
  if (vectors == 1) {
    for (int64_t row = 0; row < rows; ++row) {
      Floats sums = {};
      matrix.template multiply<1, 1>(row, 0, depth, x, xRow, dotBytesAhead, &sums);
      to[row] = sum(sums);
    }
    return;
  }
  for (int64_t row = 0; row < rows; row += dotBlockRows) {
    const auto block = matrix.from(row);
    const int64_t count = rows - row < dotBlockRows ? rows - row : dotBlockRows;
    int64_t ahead = dotRowsAhead * matrix.rowBytes();
    for (int64_t v = 0; v < vectors; v += dotVectors, ahead = 0) {
      const T* vector = x + v * xRow;
      float* result = to + v * toRow + row;
      switch (vectors - v < dotVectors ? vectors - v : dotVectors) {
#define GRAFT_VECTORS(number)                                                  \
  case number:                                                                 \
    dotBlock<number>(block, count, vector, xRow, depth, ahead, result, toRow); \
    break;
        GRAFT_VECTORS(1)
        GRAFT_VECTORS(2)
#if GRAFT_VARIANT >= 2
        GRAFT_VECTORS(3)
        GRAFT_VECTORS(4)
        GRAFT_VECTORS(5)
        GRAFT_VECTORS(6)
        GRAFT_VECTORS(7)
        GRAFT_VECTORS(8)
#endif
#undef GRAFT_VECTORS
      }
    }
  }
}
