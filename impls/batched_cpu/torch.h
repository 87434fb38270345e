// Functions of torch, and of the OpenMP library that torch loads, by their addresses. All are in stable C interfaces,
// so one library works with every version of torch and Python.
#pragma once

#include <cstdint>
#include <memory>

#include "instruments.h"

namespace hyperlstm {

// In the order of `_FUNCTIONS` in loading.py, which sets them.
struct Torch {
  // Of torch/csrc/inductor/aoti_torch/c/shim.h and torch/csrc/stable/c/shim.h, where tensors are handles; each returns
  // 0, or another number after an error.
  int32_t (*empty_strided)(
      int64_t dim, const int64_t* sizes, const int64_t* strides, int32_t dtype, int32_t device_type,
      int32_t device_index, void** tensor);
  int32_t (*create_tensor_from_blob)(
      void* memory, int64_t dim, const int64_t* sizes, const int64_t* strides, int64_t offset, int32_t dtype,
      int32_t device_type, int32_t device_index, void** tensor);
  int32_t (*get_data_ptr)(void* tensor, void** memory);
  int32_t (*delete_tensor_object)(void* tensor);
  int32_t (*mm_out)(void* out, void* x, void* y);
  int32_t (*addmm_out)(void* out, void* added, void* x, void* y, double beta, double alpha);
  int32_t (*get_num_threads)(uint32_t* threads);
  // Of OpenMP; null if torch has none.
  void (*parallel)(void (*body)(void*), void* argument, unsigned threads, unsigned flags);
  int32_t (*thread_num)();
  int32_t (*num_threads)();
  int32_t (*in_parallel)();
};

extern Torch torch;

// Numbers of dtypes and devices in these interfaces.
constexpr int32_t kByte = 0, kBFloat16 = 15, kCpu = 0;

struct Release {
  void operator()(void* tensor) const {
    HOLD(-1);
    torch.delete_tensor_object(tensor);
  }
};

// A tensor that is released with its handle.
using Tensor = std::unique_ptr<void, Release>;

inline Tensor owned(void* tensor) {
  HOLD(1);
  return Tensor(tensor);
}

}  // namespace hyperlstm
