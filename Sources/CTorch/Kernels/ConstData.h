#pragma once

#include <ATen/ATen.h>

namespace graft {

/// The numbers of a tensor, to be read. What `Tensor::const_data_ptr<T>` gives; its name is mangled differently by the
/// compilers of libtorch 2.11 and of this package, which could not be linked.
template <typename T>
const T* constData(const at::Tensor& tensor) {
  TORCH_CHECK(tensor.scalar_type() == c10::CppTypeToScalarType<T>::value, "expected ", c10::CppTypeToScalarType<T>::value,
              ", not ", tensor.scalar_type());
  return static_cast<const T*>(tensor.const_data_ptr());
}

}  // namespace graft
