// The loops of linear layers on few rows (see FewRowsLinear.cpp), for each instruction set (see ForEachVariant.h).

#include "SIMD/RowProducts.h"

#include "SIMD/PackedRowProducts.h"

template <class T>
void fewRows(const FewRowsProblem<T>& problem, int64_t begin, int64_t end) {
  float sums[mostRows * rowBlock];
  for (int64_t output = begin; output < end; output += rowBlock) {
    const int64_t count = end - output < rowBlock ? end - output : rowBlock;
    rowProducts(problem.weight, problem.weightRow, problem.packed, output, count, problem.x, problem.inputs, problem.rows,
                problem.inputs, sums, rowBlock);
    for (int64_t row = 0; row < problem.rows; ++row) {
      T* to = problem.y + row * problem.outputs + output;
      for (int64_t i = 0; i < count; i += lanes) {
        const int64_t width = count - i < lanes ? count - i : lanes;
        Floats value = load(sums + row * rowBlock + i);
        if (problem.bias)
          value += width == lanes ? load(problem.bias + output + i) : loadFirst(problem.bias + output + i, width);
        if (width == lanes)
          store(to + i, value);
        else
          storeFirst(to + i, value, width);
      }
    }
  }
}

inline void fewRowsFloat(const FewRowsProblem<float>& problem, int64_t begin, int64_t end) {
  fewRows(problem, begin, end);
}
inline void fewRowsBFloat16(const FewRowsProblem<c10::BFloat16>& problem, int64_t begin, int64_t end) {
  fewRows(problem, begin, end);
}
