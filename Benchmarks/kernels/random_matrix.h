#pragma once

#include <ATen/ATen.h>

#include "../../Sources/CTorch/Kernels/Kernels.h"

/// A quantized matrix of random numbers; GGML's blocks are random bytes with scales of a sensible size.
inline graft::QuantizedMatrix randomMatrix(graft::Encoding encoding, int64_t rows, int64_t columns,
                                           bool isDoublyQuantized = false) {
  graft::QuantizedMatrix matrix{encoding, rows, columns, {}};
  const int64_t count = rows * columns;
  const auto block = graft::blockShape(encoding);
  if (encoding == graft::Encoding::int8) {
    std::tie(matrix.codes, matrix.constants) = graft::quantizeRows(at::randn({rows, columns}) * 0.05);
  } else if (block.elements == 1) {
    std::tie(matrix.codes, matrix.constants) = graft::quantizeFourBit(at::randn({rows, columns}) * 0.05, encoding, 64);
    if (isDoublyQuantized) {
      matrix.nestedTable = graft::dynamicTable();
      matrix.nestedOffset = matrix.constants.mean().item<double>();
      std::tie(matrix.constants, matrix.nestedConstants) =
          graft::quantizeBlockwise(matrix.constants - matrix.nestedOffset, matrix.nestedTable, 256);
    }
  } else {
    using graft::Encoding;
    auto blocks = at::randint(256, {count / block.elements, block.bytes}, at::kByte);
    const auto put = [&](int64_t place, double size) {
      const auto halves = (at::rand({blocks.size(0), 1}) * size + size).to(at::kHalf);
      blocks.narrow(1, place, 2).copy_(halves.view(at::kByte));
    };
    switch (encoding) {
      case Encoding::q2_K: put(80, 0.005), put(82, 0.005); break;
      case Encoding::q3_K: put(108, 0.0005); break;
      case Encoding::q6_K: put(208, 0.0001); break;
      case Encoding::q4_1:
      case Encoding::q5_1: put(0, 0.01), put(2, -0.05); break;
      case Encoding::q4_K:
      case Encoding::q5_K: put(0, 0.0005), put(2, 0.0005); break;
      default: put(0, 0.005);
    }
    matrix.codes = blocks.flatten();
  }
  return matrix;
}
