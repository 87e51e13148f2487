#pragma once

#include <cstdint>

namespace graft {

/// One ragged sequence of an attention call: rows of the flat query and of the flat key and value tensors. The queries
/// are the last positions: query i stands at position keyCount − queryCount + i.
struct AttentionSequence {
  int64_t queryStart, queryCount, keyStart, keyCount;
};

/// A tensor [tokens, heads, headSize], the last axis contiguous.
template <class T>
struct HeadRows {
  T* data = nullptr;
  int64_t tokenStride = 0, headStride = 0;
  T* at(int64_t token, int64_t head) const { return data + token * tokenStride + head * headStride; }
};

/// What the loops of attention work on. `T` is the storage type.
template <class T>
struct AttentionProblem {
  const AttentionSequence* sequences = nullptr;
  int64_t sequenceCount = 0;
  int64_t heads = 0, keyHeads = 0, headSize = 0;
  float scale = 1;
  bool causal = true;
  /// A query sees the last `window` positions up to its own; 0: all.
  int64_t window = 0;

  HeadRows<const T> query, key, value;
  HeadRows<T> output;
  /// log₂ Σ exp of each row's scores, [heads, tokens].
  float* logSumExp = nullptr;
  int64_t tokens = 0;

  // Backward only. `output` is read.
  HeadRows<const T> outputGradient;
  HeadRows<T> queryGradient, keyGradient, valueGradient;
};

}  // namespace graft
