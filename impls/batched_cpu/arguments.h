// What Python passes to a call: the structures of arguments.py, field by field. All fields have 64 bits.
#pragma once

#include <array>
#include <cstdint>

namespace hyperlstm {

// The parameters in the order of LayerParams; the norms come last.
enum Param {
  kWeightX,
  kWeightH,
  kBias,
  kHyperWeightX,
  kHyperWeightH,
  kHyperWeightS,
  kHyperBias,
  kZWeight,
  kZBias,
  kDWeight,
  kNorms,
  kParams = kNorms + 8
};

constexpr std::array<const char*, kParams> kParamNames{
    "weight_x",
    "weight_h",
    "bias",
    "hyper_weight_x",
    "hyper_weight_h",
    "hyper_weight_s",
    "hyper_bias",
    "z_weight",
    "z_bias",
    "d_weight",
    "norm_weight",
    "norm_bias",
    "norm_c_weight",
    "norm_c_bias",
    "hyper_norm_weight",
    "hyper_norm_bias",
    "hyper_norm_c_weight",
    "hyper_norm_c_bias"};

// A contiguous array; null and 0 bytes if there is none.
struct Array {
  void* address;
  int64_t bytes;
};

using ParamArrays = std::array<Array, kParams>;

struct StateArrays {
  Array h, c, h_hat, c_hat;
};

// What both passes read. N is the number of tokens.
struct LayerArguments {
  int64_t H, S, Z, I;
  int64_t groups, members;  // the requested split; 0 for the one that suits the sizes
  int64_t T, B;
  const int64_t* batch_sizes;  // [T]: rows of each step, which never rise; null if each has B
  ParamArrays params;
  Array x;             // [N, I]
  StateArrays start;   // before the first step, [B, *]
  Array keep;          // which of g are kept, [N, H]; none without dropout
  double scale;        // of those
  StateArrays states;  // after each step, [N, *]; h alone if the backward pass is not to read them
  Array residuals;     // [N, *]; none if they are not saved
  int64_t has_v;       // whether residuals have v
};

struct ForwardArguments : LayerArguments {
  StateArrays last;  // to write: after each row's own last step, [B, *]
};

struct BackwardArguments : LayerArguments {
  const int64_t* needed;  // [kParams]: whether a parameter needs a gradient
  int64_t chunks;
  const int64_t* bounds;  // [chunks + 1]: the first step of each chunk, and T
  Array d_out;            // [N, H]
  StateArrays d_state;    // of each row's last state, to become those of its start, [B, *], in the accumulation type
  Array d_x;              // to write, [N, I]; none if x needs no gradient
};

}  // namespace hyperlstm
