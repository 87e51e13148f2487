// The packing of a row (see PackedMatrix.cpp), for each instruction set (see ForEachVariant.h). Plain loops over 64 numbers, which the
// compiler makes vectors of.

inline void packRow(const PackingProblem& problem, int64_t row, std::vector<int32_t>& exceptions) {
  constexpr uint16_t exponentBits = 0x7f80;
  const uint16_t* const from = problem.weight + row * problem.weightRow;
  uint16_t largest = 0;
  for (int64_t i = 0; i < problem.columns; ++i) {
    const uint16_t exponent = from[i] & exponentBits;
    largest = exponent > largest ? exponent : largest;
  }
  const uint16_t base = (largest >> 7) > 15 ? (largest >> 7) - 15 : 0;
  problem.bases[row] = static_cast<uint8_t>(base);

  /// The bytes and codes of 64 numbers in the packed order.
  const auto packGroup = [&](int64_t column, uint8_t* bytes, uint8_t* codes) {
    alignas(64) uint8_t inOrder[2][packedGroup];
    uint16_t isException = 0;
    for (int64_t i = 0; i < packedGroup; ++i) {
      const uint16_t number = from[column + i], exponent = (number & exponentBits) >> 7;
      const uint16_t small = exponent != 0 && exponent <= base ? 0xffff : 0;
      isException |= small;
      inOrder[0][i] = static_cast<uint8_t>(((number >> 8 & 0x80) | (number & 0x7f)) & ~small);
      inOrder[1][i] = static_cast<uint8_t>(exponent > base ? exponent - base : 0);
    }
    for (int64_t lane = 0; lane < 4; ++lane)
      for (int64_t half = 0; half < 2; ++half) {
        const int64_t to = 16 * lane + 8 * half, place = 32 * half + 8 * lane;
        __builtin_memcpy(bytes + to, inOrder[0] + place, 8);
        __builtin_memcpy(codes + to, inOrder[1] + place, 8);
      }
    if (isException)
      for (int64_t i = 0; i < packedGroup; ++i) {
        const uint16_t number = from[column + i], exponent = (number & exponentBits) >> 7;
        if (exponent != 0 && exponent <= base)
          exceptions.push_back(static_cast<int32_t>(static_cast<uint32_t>(column + i) << 16 | number));
      }
  };

  uint8_t* to = problem.bytes + row * (problem.columns / 2 * 3);
  alignas(64) uint8_t codes[2][packedGroup];
  int64_t column = 0;
  for (; column + 2 * packedGroup <= problem.columns; column += 2 * packedGroup, to += 3 * packedGroup) {
    packGroup(column, to, codes[0]);
    packGroup(column + packedGroup, to + packedGroup, codes[1]);
    for (int64_t i = 0; i < packedGroup; ++i) to[2 * packedGroup + i] = static_cast<uint8_t>(codes[0][i] | codes[1][i] << 4);
  }
  if (column < problem.columns) {
    packGroup(column, to, codes[0]);
    for (int64_t i = 0; i < packedGroup / 2; ++i)
      to[packedGroup + i] = static_cast<uint8_t>(codes[0][i] | codes[0][packedGroup / 2 + i] << 4);
  }
}
