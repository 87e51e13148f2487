// Decoding a range of elements (see Dequantize.cpp), for each instruction set (see ForEachVariant.h).
//
// Every element is the same sequence of fp32 operations in all sets, each rounded by itself: contraction into fused
// multiply-adds is off, so that the results are equal to the bit, to each other, to bitsandbytes' and to gguf's.

typedef uint8_t Bytes __attribute__((vector_size(16)));
typedef int8_t SignedBytes __attribute__((vector_size(16)));

/// Sixteen bytes, one a lane.
GRAFT_INLINE Words loadBytes(const uint8_t* from) { return __builtin_convertvector(loadBits<Bytes>(from), Words); }

/// Small unsigned numbers.
GRAFT_INLINE Floats asFloats(Words numbers) { return __builtin_convertvector(reinterpret_cast<Ints>(numbers), Floats); }

GRAFT_INLINE Floats asFloats(SignedBytes numbers) { return __builtin_convertvector(numbers, Floats); }

#if GRAFT_VARIANT == 1
typedef uint32_t EightWords __attribute__((vector_size(32)));

/// Eight lanes of `lookUp`: `low` and `high` are the halves of the table.
GRAFT_INLINE EightWords lookUpHalf(EightWords low, EightWords high, EightWords index) {
  const auto position = reinterpret_cast<__m256i>(index);
  const auto one = _mm256_permutevar8x32_epi32(reinterpret_cast<__m256i>(low), position);
  const auto other = _mm256_permutevar8x32_epi32(reinterpret_cast<__m256i>(high), position);
  // The blend goes by the sign, where bit 3 of the index is put.
  const auto upper = _mm256_castsi256_ps(_mm256_slli_epi32(position, 28));
  return reinterpret_cast<EightWords>(
      _mm256_blendv_ps(_mm256_castsi256_ps(one), _mm256_castsi256_ps(other), upper));
}
#endif

/// table[index], a lane at a time; `index` below 16.
GRAFT_INLINE Words lookUp(Words table, Words index) {
#if GRAFT_VARIANT >= 2
  return reinterpret_cast<Words>(
      _mm512_permutexvar_epi32(reinterpret_cast<__m512i>(index), reinterpret_cast<__m512i>(table)));
#elif GRAFT_VARIANT == 1
  const EightWords low = __builtin_shufflevector(table, table, 0, 1, 2, 3, 4, 5, 6, 7);
  const EightWords high = __builtin_shufflevector(table, table, 8, 9, 10, 11, 12, 13, 14, 15);
  const EightWords first = lookUpHalf(low, high, __builtin_shufflevector(index, index, 0, 1, 2, 3, 4, 5, 6, 7));
  const EightWords second = lookUpHalf(low, high, __builtin_shufflevector(index, index, 8, 9, 10, 11, 12, 13, 14, 15));
  return __builtin_shufflevector(first, second, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
#else
  Words result;
  for (int i = 0; i < lanes; ++i) result[i] = table[index[i]];
  return result;
#endif
}

/// 32 elements of four bits: the even ones lie in the upper halves of 16 bytes.
GRAFT_INLINE void storeNibbles(float* to, Floats values, Words bytes) {
  const Words table = reinterpret_cast<Words>(values);
  const Words even = lookUp(table, bytes >> 4), odd = lookUp(table, bytes & 15u);
  storeBits(to, __builtin_shufflevector(even, odd, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23));
  storeBits(to + lanes, __builtin_shufflevector(even, odd, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31));
}

GRAFT_INLINE void storeNibbles(c10::BFloat16* to, Floats values, Words bytes) {
  // Sixteen values are rounded instead of 32 elements; a pair of neighbours is one word.
  const Words table = __builtin_convertvector(narrow(values), Words);
  storeBits(to, lookUp(table, bytes >> 4) | lookUp(table << 16, bytes & 15u));
}

/// The constant of a block or row.
GRAFT_INLINE float constant(const QuantizedView& m, int64_t index) {
#pragma clang fp contract(off)
  if (m.constants != nullptr) return m.constants[index];
  return m.nestedTable[m.constantCodes[index]] * m.nestedConstants[m.nestedIndex(index)] + m.nestedOffset;
}

/// The flattened element `i` of a block with these values.
template <class T>
GRAFT_INLINE void decodeOne(const QuantizedView& m, const Floats& values, int64_t i, T* out) {
  const uint8_t byte = m.codes[i / 2];
  *out = static_cast<T>(static_cast<float>(values[i % 2 == 0 ? byte >> 4 : byte & 15]));
}

/// The flattened elements `begin ..< end` of a matrix in NF4 or FP4.
template <class T>
GRAFT_INLINE void decodeFourBit(const QuantizedView& m, const float* values, int64_t begin, int64_t end, T* out) {
#pragma clang fp contract(off)
  const Floats table = load(values);
  for (int64_t i = begin; i < end;) {
    const int64_t block = m.blockIndex(i), last = (block + 1) * m.blockIndex.size;
    const int64_t stop = end < last ? end : last;
    const Floats scaled = table * splat(constant(m, block));
    if (i % 2 != 0) decodeOne(m, scaled, i, out + (i - begin)), ++i;
    for (; i + 2 * lanes <= stop; i += 2 * lanes) storeNibbles(out + (i - begin), scaled, loadBytes(m.codes + i / 2));
    for (; i < stop; ++i) decodeOne(m, scaled, i, out + (i - begin));
  }
}

/// Elements of a row of an int8 matrix.
template <class T>
GRAFT_INLINE void decodeInt8(const QuantizedView& m, int64_t row, int64_t column, int64_t columns, T* out) {
#pragma clang fp contract(off)
  const auto* codes = reinterpret_cast<const int8_t*>(m.codes) + row * m.columns + column;
  const float each = 7.874015718698502e-3f;  // 1 / 127, as bitsandbytes writes it
  const float largest = m.constants[row];
  int64_t i = 0;
  for (; i + lanes <= columns; i += lanes)
    store(out + i, asFloats(loadBits<SignedBytes>(codes + i)) * splat(largest) * splat(each));
  for (; i < columns; ++i) out[i] = static_cast<T>(static_cast<float>(codes[i]) * largest * each);
}

// MARK: GGML's blocks. `decode` gives 32 elements of a block `b`, those of its `part`; the layouts are those of
// Sources/Formats/Decoding/Blocks.

/// Elements that are decoded at once: the smallest blocks, and the largest part of the others with one scale or two.
constexpr int64_t blockPart = 32;

GRAFT_INLINE float half(const uint8_t* from) {
  uint16_t bits;
  __builtin_memcpy(&bits, from, 2);
#if GRAFT_VARIANT >= 2
  return _cvtsh_ss(bits);
#else
  return static_cast<float>(c10::Half(bits, c10::Half::from_bits()));
#endif
}

GRAFT_INLINE uint32_t word(const uint8_t* from) {
  uint32_t bits;
  __builtin_memcpy(&bits, from, 4);
  return bits;
}

/// Bit `lane` of a 16-bit word, in each lane.
GRAFT_INLINE Words bitOfLane(uint32_t bits) {
  return ((Words{} + bits) >> reinterpret_cast<Words>(laneIndex())) & 1u;
}

struct BlockQ4_0 {
  template <class T>
  static GRAFT_INLINE void decode(const uint8_t* b, int64_t, T* out) {
    const Floats scale = splat(half(b));
    const Words bytes = loadBytes(b + 2);
    store(out, scale * (asFloats(bytes & 15u) - splat(8)));
    store(out + lanes, scale * (asFloats(bytes >> 4) - splat(8)));
  }
};

struct BlockQ4_1 {
  template <class T>
  static GRAFT_INLINE void decode(const uint8_t* b, int64_t, T* out) {
#pragma clang fp contract(off)
    const Floats scale = splat(half(b)), minimum = splat(half(b + 2));
    const Words bytes = loadBytes(b + 4);
    store(out, scale * asFloats(bytes & 15u) + minimum);
    store(out + lanes, scale * asFloats(bytes >> 4) + minimum);
  }
};

struct BlockQ5_0 {
  template <class T>
  static GRAFT_INLINE void decode(const uint8_t* b, int64_t, T* out) {
    const Floats scale = splat(half(b));
    const uint32_t high = word(b + 2);
    const Words bytes = loadBytes(b + 6);
    store(out, scale * (asFloats((bytes & 15u) | bitOfLane(high & 0xffff) << 4) - splat(16)));
    store(out + lanes, scale * (asFloats((bytes >> 4) | bitOfLane(high >> 16) << 4) - splat(16)));
  }
};

struct BlockQ5_1 {
  template <class T>
  static GRAFT_INLINE void decode(const uint8_t* b, int64_t, T* out) {
#pragma clang fp contract(off)
    const Floats scale = splat(half(b)), minimum = splat(half(b + 2));
    const uint32_t high = word(b + 4);
    const Words bytes = loadBytes(b + 8);
    store(out, scale * asFloats((bytes & 15u) | bitOfLane(high & 0xffff) << 4) + minimum);
    store(out + lanes, scale * asFloats((bytes >> 4) | bitOfLane(high >> 16) << 4) + minimum);
  }
};

struct BlockQ8_0 {
  template <class T>
  static GRAFT_INLINE void decode(const uint8_t* b, int64_t, T* out) {
    const Floats scale = splat(half(b));
    store(out, asFloats(loadBits<SignedBytes>(b + 2)) * scale);
    store(out + lanes, asFloats(loadBits<SignedBytes>(b + 2 + lanes)) * scale);
  }
};

struct BlockQ2_K {
  template <class T>
  static GRAFT_INLINE void decode(const uint8_t* b, int64_t part, T* out) {
#pragma clang fp contract(off)
    const float scale = half(b + 80), minimum = half(b + 82);
    for (int64_t group = 2 * part; group < 2 * part + 2; ++group, out += lanes) {
      const float groupScale = scale * static_cast<float>(b[group] & 15);
      const float groupMinimum = minimum * static_cast<float>(b[group] >> 4);
      const Words bytes = loadBytes(b + 16 + (group >> 3) * 32 + (group & 1) * 16);
      const uint32_t shift = ((group >> 1) & 3) * 2;
      store(out, splat(groupScale) * asFloats((bytes >> shift) & 3u) - splat(groupMinimum));
    }
  }
};

struct BlockQ3_K {
  template <class T>
  static GRAFT_INLINE void decode(const uint8_t* b, int64_t part, T* out) {
    const uint8_t* scales = b + 96;
    const float scale = half(b + 108);
    for (int64_t group = 2 * part; group < 2 * part + 2; ++group, out += lanes) {
      const int low = (scales[group & 7] >> (group < 8 ? 0 : 4)) & 15;
      const int top = (scales[8 + (group & 3)] >> ((group >> 2) * 2)) & 3;
      const float groupScale = scale * static_cast<float>((low | top << 4) - 32);
      const int64_t column = (group & 1) * 16;
      const Words bytes = (loadBytes(b + 32 + (group >> 3) * 32 + column) >> uint32_t(((group >> 1) & 3) * 2)) & 3u;
      // A high bit that is not set takes 4 away.
      const Words isSet = (loadBytes(b + column) >> uint32_t(group >> 1)) & 1u;
      store(out, splat(groupScale) * (asFloats(bytes | isSet << 2) - splat(4)));
    }
  }
};

/// Scale and minimum of group `group` of Q4_K and Q5_K out of 12 bytes.
GRAFT_INLINE void scaleAndMinimum(const uint8_t* scales, int64_t group, int& scale, int& minimum) {
  if (group < 4) {
    scale = scales[group] & 63;
    minimum = scales[group + 4] & 63;
  } else {
    scale = (scales[group + 4] & 15) | ((scales[group - 4] >> 2) & 0x30);
    minimum = (scales[group + 4] >> 4) | ((scales[group] >> 2) & 0x30);
  }
}

/// Q4_K and Q5_K, which has a fifth bit of every number before the four others.
template <bool hasFifthBit>
struct BlockWithMinima {
  template <class T>
  static GRAFT_INLINE void decode(const uint8_t* b, int64_t part, T* out) {
#pragma clang fp contract(off)
    int six, least;
    scaleAndMinimum(b + 4, part, six, least);
    const Floats scale = splat(half(b) * static_cast<float>(six));
    const Floats minimum = splat(half(b + 2) * static_cast<float>(least));
    const uint8_t* bytes = b + (hasFifthBit ? 48 : 16) + (part >> 1) * 32;
    const uint32_t shift = (part & 1) * 4;
    for (int column = 0; column < 32; column += lanes) {
      Words numbers = (loadBytes(bytes + column) >> shift) & 15u;
      if constexpr (hasFifthBit) numbers |= ((loadBytes(b + 16 + column) >> uint32_t(part)) & 1u) << 4;
      store(out + column, scale * asFloats(numbers) - minimum);
    }
  }
};

using BlockQ4_K = BlockWithMinima<false>;
using BlockQ5_K = BlockWithMinima<true>;

struct BlockQ6_K {
  template <class T>
  static GRAFT_INLINE void decode(const uint8_t* b, int64_t part, T* out) {
    const auto* scales = reinterpret_cast<const int8_t*>(b + 192);
    const float scale = half(b + 208);
    for (int64_t group = 2 * part; group < 2 * part + 2; ++group, out += lanes) {
      const int64_t row = (group >> 1) & 3, column = (group & 1) * 16;
      const Words low = (loadBytes(b + (group >> 3) * 64 + (row & 1) * 32 + column) >> uint32_t((row >> 1) * 4)) & 15u;
      const Words high = (loadBytes(b + 128 + (group >> 3) * 32 + column) >> uint32_t(row * 2)) & 3u;
      const float groupScale = scale * static_cast<float>(scales[group]);
      store(out, splat(groupScale) * (asFloats(low | high << 4) - splat(32)));
    }
  }
};

/// The flattened elements `begin ..< end` of a matrix in blocks; both are multiples of 32.
template <Encoding encoding, class Block, class T>
GRAFT_INLINE void decodeBlocks(const QuantizedView& m, int64_t begin, int64_t end, T* out) {
  constexpr BlockShape shape = blockShape(encoding);
  constexpr int64_t parts = shape.elements / blockPart;
  const uint8_t* block = m.codes + begin / shape.elements * shape.bytes;
  int64_t part = begin / blockPart % parts;
  for (int64_t i = begin; i < end; i += blockPart, out += blockPart) {
    Block::decode(block, part, out);
    if (++part == parts) part = 0, block += shape.bytes;
  }
}

/// Elements `column ..< column + columns` of a row.
template <class T>
GRAFT_INLINE void decode(const QuantizedView& m, int64_t row, int64_t column, int64_t columns, T* out) {
  const int64_t begin = row * m.columns + column, end = begin + columns;
  switch (m.encoding) {
    case Encoding::nf4: return decodeFourBit(m, nf4Values, begin, end, out);
    case Encoding::fp4: return decodeFourBit(m, fp4Values, begin, end, out);
    case Encoding::int8: return decodeInt8(m, row, column, columns, out);
    case Encoding::q4_0: return decodeBlocks<Encoding::q4_0, BlockQ4_0>(m, begin, end, out);
    case Encoding::q4_1: return decodeBlocks<Encoding::q4_1, BlockQ4_1>(m, begin, end, out);
    case Encoding::q5_0: return decodeBlocks<Encoding::q5_0, BlockQ5_0>(m, begin, end, out);
    case Encoding::q5_1: return decodeBlocks<Encoding::q5_1, BlockQ5_1>(m, begin, end, out);
    case Encoding::q8_0: return decodeBlocks<Encoding::q8_0, BlockQ8_0>(m, begin, end, out);
    case Encoding::q2_K: return decodeBlocks<Encoding::q2_K, BlockQ2_K>(m, begin, end, out);
    case Encoding::q3_K: return decodeBlocks<Encoding::q3_K, BlockQ3_K>(m, begin, end, out);
    case Encoding::q4_K: return decodeBlocks<Encoding::q4_K, BlockQ4_K>(m, begin, end, out);
    case Encoding::q5_K: return decodeBlocks<Encoding::q5_K, BlockQ5_K>(m, begin, end, out);
    case Encoding::q6_K: return decodeBlocks<Encoding::q6_K, BlockQ6_K>(m, begin, end, out);
  }
}

template <class T>
GRAFT_INLINE void decodeRectangle(const QuantizedView& m, int64_t row, int64_t rows, int64_t column, int64_t columns,
                                  T* to, int64_t toRow) {
  for (int64_t i = 0; i < rows; ++i) decode(m, row + i, column, columns, to + i * toRow);
}

inline void decodeTileFloat(const QuantizedView& m, int64_t row, int64_t rows, int64_t column, int64_t columns,
                            float* to, int64_t toRow) {
  decodeRectangle(m, row, rows, column, columns, to, toRow);
}
inline void decodeTileBFloat16(const QuantizedView& m, int64_t row, int64_t rows, int64_t column, int64_t columns,
                               c10::BFloat16* to, int64_t toRow) {
  decodeRectangle(m, row, rows, column, columns, to, toRow);
}

// MARK: Few tokens

/// The products of matrix rows `firstRow ..< lastRow` with `tokens` vectors x, fp32 `[tokens, columns]`, into `output`,
/// whose rows are `outputStride` apart. `row` has room for one decoded row of `T`, the type in which dense weights would be held.
template <class T>
GRAFT_INLINE void productRows(const QuantizedView& m, int64_t firstRow, int64_t lastRow, const float* x, int64_t tokens,
                              T* row, T* output, int64_t outputStride) {
  const int64_t whole = m.columns / (2 * lanes) * (2 * lanes);
  for (int64_t r = firstRow; r < lastRow; ++r) {
    decode(m, r, 0, m.columns, row);
    for (int64_t t = 0; t < tokens; ++t) {
      const float* vector = x + t * m.columns;
      Floats sums[2] = {};
      for (int64_t i = 0; i < whole; i += 2 * lanes) {
        sums[0] += load(row + i) * load(vector + i);
        sums[1] += load(row + i + lanes) * load(vector + i + lanes);
      }
      float total = sum(sums[0] + sums[1]);
      for (int64_t i = whole; i < m.columns; ++i) total += static_cast<float>(row[i]) * vector[i];
      output[t * outputStride + r] = static_cast<T>(total);
    }
  }
}

inline void productRowsFloat(const QuantizedView& m, int64_t firstRow, int64_t lastRow, const float* x, int64_t tokens,
                             float* row, float* output, int64_t outputStride) {
  productRows(m, firstRow, lastRow, x, tokens, row, output, outputStride);
}
inline void productRowsBFloat16(const QuantizedView& m, int64_t firstRow, int64_t lastRow, const float* x,
                                int64_t tokens, c10::BFloat16* row, c10::BFloat16* output, int64_t outputStride) {
  productRows(m, firstRow, lastRow, x, tokens, row, output, outputStride);
}
