// The blocks of ragged attention, for each instruction set (see ForEachVariant.h); formulas in Attention.cpp.
//
// Scores are computed transposed, keys down and 16 queries along a vector, so that maxima and sums over keys need no
// step across lanes, the keys need no transposition, and the weights come out in the two forms that the products want.

#include "SIMD/Products.h"

/// Queries, and keys, in a block.
constexpr int64_t block = 64;
constexpr int64_t blockVectors = block / lanes;

template <class T>
struct BestUnit {
  using type = Single;
};
#if GRAFT_VARIANT >= 3
template <>
struct BestUnit<c10::BFloat16> {
  using type = Pair;
};
#endif

GRAFT_INLINE int64_t roundUp(int64_t x, int64_t to) { return (x + to - 1) / to * to; }

/// Memory of one call, aligned to a cache line.
struct Scratch {
  explicit Scratch(int64_t bytes) : data(static_cast<char*>(std::aligned_alloc(64, roundUp(bytes, 64)))) {
    if (data == nullptr && bytes > 0) throw std::bad_alloc();
  }
  Scratch(const Scratch&) = delete;
  ~Scratch() { std::free(data); }
  char* data;
};

/// Hands out consecutive aligned pieces of a Scratch.
struct Pieces {
  char* next;
  int64_t used = 0;
  template <class X>
  X* take(int64_t count) {
    X* piece = reinterpret_cast<X*>(next + used);
    used += roundUp(count * sizeof(X), 64);
    return piece;
  }
};

/// The keys that the queries firstQuery..<firstQuery + count of a sequence see.
struct KeyRange {
  int64_t begin, end;
};

template <class T>
GRAFT_INLINE KeyRange visibleKeys(const AttentionProblem<T>& problem, const AttentionSequence& sequence,
                                  int64_t firstQuery, int64_t count) {
  const int64_t shift = sequence.keyCount - sequence.queryCount;
  KeyRange range{0, sequence.keyCount};
  if (problem.causal) range.end = std::max<int64_t>(0, std::min(range.end, firstQuery + count + shift));
  if (problem.window > 0) range.begin = std::max<int64_t>(0, firstQuery + shift - problem.window + 1);
  return range;
}

/// Which numbers of a block of scores count. Positions are relative: query lane q of the block stands at `diagonal` + q
/// if key row k stands at k.
struct BlockMask {
  int64_t diagonal;
  int64_t keys;    // rows behind it are padding
  int64_t window;  // 0: none
  bool causal;

  bool needed() const {
    return keys < block || (causal && diagonal < block - 1) || (window > 0 && diagonal + block - 1 >= window);
  }
  GRAFT_INLINE Ints allowed(int64_t key, int64_t vector) const {
    const Ints position = laneIndex() + splatInt(static_cast<int32_t>(diagonal + vector * lanes));
    Ints result = splatInt(key < keys ? -1 : 0);
    if (causal) result &= position >= splatInt(static_cast<int32_t>(key));
    if (window > 0) result &= position < splatInt(static_cast<int32_t>(key + window));
    return result;
  }
};

// MARK: Forward

template <class T>
void attentionForward(const AttentionProblem<T>& problem) {
  using Unit = typename BestUnit<T>::type;
  using Word = typename Unit::Word;
  const int64_t size = problem.headSize;
  const int64_t words = roundUp(size / Unit::depth, lanes);  // of a row
  const int64_t width = words * Unit::depth;                 // of a row, padded
  const int64_t group = problem.heads / problem.keyHeads;

  // Keys as rows and values with k down the rows, packed once for all heads and queries that read them.
  std::vector<int64_t> firstKeyBlock(problem.sequenceCount + 1, 0), firstTask(problem.sequenceCount + 1, 0);
  for (int64_t n = 0; n < problem.sequenceCount; ++n) {
    firstKeyBlock[n + 1] = firstKeyBlock[n] + roundUp(problem.sequences[n].keyCount, block) / block;
    firstTask[n + 1] = firstTask[n] + roundUp(problem.sequences[n].queryCount, block) / block * problem.keyHeads;
  }
  const int64_t keyBlocks = firstKeyBlock.back();
  const int64_t keyBlockWords = block * words, valueBlockWords = block / Unit::depth * width;
  Scratch packed(problem.keyHeads * keyBlocks * (keyBlockWords + valueBlockWords) * sizeof(Word));
  Pieces packedPieces{packed.data};
  Word* const keys = packedPieces.take<Word>(problem.keyHeads * keyBlocks * keyBlockWords);
  Word* const values = packedPieces.take<Word>(problem.keyHeads * keyBlocks * valueBlockWords);

  struct ThreadScratch {
    Word *rows, *query, *weights;
    float *scores, *sums, *correction;
    ThreadScratch(char* from, int64_t words, int64_t width) {
      Pieces pieces{from};
      rows = pieces.take<Word>(block * words);
      query = pieces.take<Word>(block * words);
      weights = pieces.take<Word>(block * block / Unit::depth);
      scores = pieces.take<float>(block * block);
      sums = pieces.take<float>(block * width);
      correction = pieces.take<float>(block);
      bytes = pieces.used;
    }
    int64_t bytes;
  };
  const int64_t threadBytes = ThreadScratch(nullptr, words, width).bytes;
  Scratch threads(threadBytes * threadCount());

  parallelTasks(problem.keyHeads * problem.sequenceCount, [&](int64_t task, int64_t thread) {
    const int64_t head = task % problem.keyHeads, n = task / problem.keyHeads;
    const auto& sequence = problem.sequences[n];
    Word* const rows = ThreadScratch(threads.data + thread * threadBytes, words, width).rows;
    for (int64_t j = 0; j * block < sequence.keyCount; ++j) {
      const int64_t token = sequence.keyStart + j * block, count = std::min(block, sequence.keyCount - j * block);
      const int64_t index = head * keyBlocks + firstKeyBlock[n] + j;
      packRows<Unit>(keys + index * keyBlockWords, words, problem.key.at(token, head), problem.key.tokenStride, count,
                     block, size);
      packRows<Unit>(rows, words, problem.value.at(token, head), problem.value.tokenStride, count, block, size);
      packDown<Unit>(values + index * valueBlockWords, width, rows, words, block, width);
    }
  });

  const float toLog2 = problem.scale * log2e;
  parallelTasks(firstTask.back(), [&](int64_t reversed, int64_t thread) {
    // The last query blocks of a causal sequence see most keys: first, so that the end of the loop is even.
    const int64_t task = firstTask.back() - 1 - reversed;
    const int64_t n = std::upper_bound(firstTask.begin(), firstTask.end(), task) - firstTask.begin() - 1;
    const auto& sequence = problem.sequences[n];
    const int64_t keyHead = (task - firstTask[n]) % problem.keyHeads;
    const int64_t firstQuery = (task - firstTask[n]) / problem.keyHeads * block;
    const int64_t count = std::min(block, sequence.queryCount - firstQuery);
    const int64_t shift = sequence.keyCount - sequence.queryCount;
    const KeyRange visible = visibleKeys(problem, sequence, firstQuery, count);
    const ThreadScratch scratch(threads.data + thread * threadBytes, words, width);

    for (int64_t head = keyHead * group; head < (keyHead + 1) * group; ++head) {
      const int64_t token = sequence.queryStart + firstQuery;
      packRows<Unit>(scratch.rows, words, problem.query.at(token, head), problem.query.tokenStride, count, block, size);
      transpose(scratch.query, block, scratch.rows, words, block, words);
      __builtin_memset(scratch.sums, 0, block * width * sizeof(float));
      Floats maxima[blockVectors], totals[blockVectors];
      for (int v = 0; v < blockVectors; ++v) maxima[v] = splat(-1e30f), totals[v] = Floats{};

      for (int64_t j = visible.begin / block; j * block < visible.end; ++j) {
        const int64_t index = keyHead * keyBlocks + firstKeyBlock[n] + j;
        // scores [keys, queries] = K Qᵀ
        product<Unit, false>(block, blockVectors, size / Unit::depth, keys + index * keyBlockWords, words, 1,
                             scratch.query, block, scratch.scores, block);
        const BlockMask mask{firstQuery + shift - j * block, sequence.keyCount - j * block, problem.window,
                             problem.causal};
        if (mask.needed())
          for (int64_t key = 0; key < block; ++key)
            for (int v = 0; v < blockVectors; ++v) {
              float* score = scratch.scores + key * block + v * lanes;
              store(score, select(mask.allowed(key, v), load(score), splat(-__builtin_inff())));
            }

        bool corrects = false;
        for (int v = 0; v < blockVectors; ++v) {
          const float* column = scratch.scores + v * lanes;
          Floats peak[4] = {load(column), load(column + block), load(column + 2 * block), load(column + 3 * block)};
          for (int64_t key = 4; key < block; key += 4)
            for (int i = 0; i < 4; ++i) peak[i] = maximum(peak[i], load(column + (key + i) * block));
          const Floats largestScore = maximum(maximum(peak[0], peak[1]), maximum(peak[2], peak[3])) * splat(toLog2);
          const Floats newMaximum = maximum(maxima[v], largestScore);
          const Floats correction = exp2(maxima[v] - newMaximum);
          maxima[v] = newMaximum;
          store(scratch.correction + v * lanes, correction);
          corrects |= any(correction != splat(1));
          Floats total[2] = {};
          for (int64_t key = 0; key < block; key += 2) {
            const Floats first = exp2(load(column + key * block) * splat(toLog2) - newMaximum);
            const Floats second = exp2(load(column + (key + 1) * block) * splat(toLog2) - newMaximum);
            total[0] += first;
            total[1] += second;
            storeDown<Unit>(scratch.weights + key / Unit::depth * block + v * lanes, block, first, second);
          }
          totals[v] = totals[v] * correction + (total[0] + total[1]);
        }
        if (corrects)
          for (int64_t row = 0; row < count; ++row) {
            const Floats factor = splat(scratch.correction[row]);
            for (int64_t i = 0; i < size; i += lanes) {
              float* sums = scratch.sums + row * width + i;
              store(sums, load(sums) * factor);
            }
          }
        // sums [queries, size] += weights V
        const auto multiply = mask.causal && mask.diagonal < block - 1 ? product<Unit, true, Triangle::below>
                                                                       : product<Unit, true, Triangle::none>;
        multiply(block, size / lanes, block / Unit::depth, scratch.weights, 1, block, values + index * valueBlockWords,
                 width, scratch.sums, width, mask.diagonal);
      }

      for (int64_t row = 0; row < count; ++row) {
        const float total = totals[row / lanes][row % lanes];
        const Floats inverse = splat(total > 0 ? 1 / total : 0);
        T* output = problem.output.at(token + row, head);
        for (int64_t i = 0; i < size; i += lanes) store(output + i, load(scratch.sums + row * width + i) * inverse);
        // A query that sees no key at all: weights of 0 in the backward pass.
        if (problem.logSumExp)
          problem.logSumExp[head * problem.tokens + token + row] =
              total > 0 ? maxima[row / lanes][row % lanes] + std::log2(total) : 1e30f;
      }
    }
  });
}

// MARK: Decoding

/// Whether `attentionDecode` takes these: the queries of a sequence, times the heads that share keys, fill one vector.
template <class T>
bool isDecoding(const AttentionProblem<T>& problem) {
  for (int64_t n = 0; n < problem.sequenceCount; ++n)
    if (problem.sequences[n].queryCount * problem.heads / problem.keyHeads > lanes) return false;
  return problem.logSumExp == nullptr;
}

/// Few queries against many keys, as in generation: bound by reading keys and values, which happens once for all the
/// queries and heads that share them. Those lie along one vector. Long sequences are cut into parts that are combined at the end.
template <class T>
void attentionDecode(const AttentionProblem<T>& problem) {
  using Unit = typename BestUnit<T>::type;
  using Word = typename Unit::Word;
  constexpr int64_t keysPerPart = 8 * block;
  const int64_t size = problem.headSize;
  const int64_t words = roundUp(size / Unit::depth, lanes);
  const int64_t width = words * Unit::depth;
  const int64_t group = problem.heads / problem.keyHeads;

  struct Part {
    int64_t sequence, keyHead, begin, end;
  };
  std::vector<Part> parts;
  for (int64_t n = 0; n < problem.sequenceCount; ++n) {
    const auto& sequence = problem.sequences[n];
    if (sequence.queryCount == 0) continue;
    const KeyRange visible = visibleKeys(problem, sequence, 0, sequence.queryCount);
    for (int64_t head = 0; head < problem.keyHeads; ++head) {
      int64_t begin = visible.begin / block * block;
      do {
        parts.push_back({n, head, begin, std::min(begin + keysPerPart, visible.end)});
        begin += keysPerPart;
      } while (begin < visible.end);
    }
  }

  // Of each part and lane: the sums, their largest exponent and the total weight.
  const int64_t partSize = lanes * (width + 2);
  Scratch results(parts.size() * partSize * sizeof(float));
  float* const result = reinterpret_cast<float*>(results.data);
  struct ThreadScratch {
    Word *rows, *query, *values, *weights;
    float* scores;
    int64_t bytes;
    ThreadScratch(char* from, int64_t words, int64_t width) {
      Pieces pieces{from};
      rows = pieces.take<Word>(block * words);
      query = pieces.take<Word>(lanes * words);
      values = pieces.take<Word>(block / Unit::depth * width);
      weights = pieces.take<Word>(block / Unit::depth * lanes);
      scores = pieces.take<float>(block * lanes);
      bytes = pieces.used;
    }
  };
  const int64_t threadBytes = ThreadScratch(nullptr, words, width).bytes;
  Scratch threads(threadBytes * threadCount());

  const float toLog2 = problem.scale * log2e;
  parallelTasks(parts.size(), [&](int64_t index, int64_t thread) {
    const Part part = parts[index];
    const auto& sequence = problem.sequences[part.sequence];
    const ThreadScratch scratch(threads.data + thread * threadBytes, words, width);
    const int64_t shift = sequence.keyCount - sequence.queryCount;
    const int64_t rowCount = sequence.queryCount * group;
    float* const sums = result + index * partSize;

    // Lane q·group + g is query q of head g.
    __builtin_memset(scratch.rows, 0, lanes * words * sizeof(Word));
    for (int64_t q = 0; q < sequence.queryCount; ++q)
      packRows<Unit>(scratch.rows + q * group * words, words,
                     problem.query.at(sequence.queryStart + q, part.keyHead * group), problem.query.headStride, group,
                     group, size);
    transpose(scratch.query, lanes, scratch.rows, words, lanes, words);
    Ints position;
    for (int lane = 0; lane < lanes; ++lane) position[lane] = static_cast<int32_t>(shift + lane / group);

    __builtin_memset(sums, 0, lanes * width * sizeof(float));
    Floats peak = splat(-1e30f), total = {};
    for (int64_t key = part.begin; key < part.end; key += block) {
      const int64_t count = std::min(block, part.end - key), padded = roundUp(count, 2 * tileRows);
      packRows<Unit>(scratch.rows, words, problem.key.at(sequence.keyStart + key, part.keyHead),
                     problem.key.tokenStride, count, padded, size);
      product<Unit, false>(padded, 1, size / Unit::depth, scratch.rows, words, 1, scratch.query, lanes, scratch.scores,
                           lanes);
      Floats newPeak = peak;
      for (int64_t row = 0; row < padded; ++row) {
        const Ints keyPosition = splatInt(static_cast<int32_t>(key + row));
        Ints allowed = splatInt(row < count ? -1 : 0);
        if (problem.causal) allowed &= position >= keyPosition;
        if (problem.window > 0) allowed &= position < keyPosition + static_cast<int32_t>(problem.window);
        const Floats score =
            select(allowed, load(scratch.scores + row * lanes) * splat(toLog2), splat(-__builtin_inff()));
        store(scratch.scores + row * lanes, score);
        newPeak = maximum(newPeak, score);
      }
      const Floats correction = exp2(peak - newPeak);
      peak = newPeak;
      total = total * correction;
      for (int64_t row = 0; row < padded; row += 2) {
        const Floats first = exp2(load(scratch.scores + row * lanes) - peak),
                     second = exp2(load(scratch.scores + (row + 1) * lanes) - peak);
        total += first + second;
        storeDown<Unit>(scratch.weights + row / Unit::depth * lanes, lanes, first, second);
      }
      if (any(correction != splat(1)))
        for (int64_t lane = 0; lane < rowCount; ++lane)
          for (int64_t i = 0; i < size; i += lanes) {
            float* at = sums + lane * width + i;
            store(at, load(at) * splat(correction[lane]));
          }
      packRows<Unit>(scratch.rows, words, problem.value.at(sequence.keyStart + key, part.keyHead),
                     problem.value.tokenStride, count, padded, size);
      packDown<Unit>(scratch.values, width, scratch.rows, words, padded, width);
      product<Unit, true>(roundUp(rowCount, tileRows), size / lanes, padded / Unit::depth, scratch.weights, 1, lanes,
                          scratch.values, width, sums, width);
    }
    store(sums + lanes * width, peak);
    store(sums + lanes * width + lanes, total);
  });

  for (size_t first = 0, end = 0; first < parts.size(); first = end) {
    while (end < parts.size() && parts[end].sequence == parts[first].sequence &&
           parts[end].keyHead == parts[first].keyHead)
      ++end;
    const auto& sequence = problem.sequences[parts[first].sequence];
    Floats peak = splat(-1e30f), total = {};
    for (size_t i = first; i < end; ++i) peak = maximum(peak, load(result + i * partSize + lanes * width));
    for (size_t i = first; i < end; ++i)
      total += load(result + i * partSize + lanes * width + lanes) *
               exp2(load(result + i * partSize + lanes * width) - peak);
    for (int64_t lane = 0; lane < sequence.queryCount * group; ++lane) {
      T* output = problem.output.at(sequence.queryStart + lane / group, parts[first].keyHead * group + lane % group);
      const float inverse = total[lane] > 0 ? 1 / total[lane] : 0;
      for (int64_t i = 0; i < size; i += lanes) {
        Floats value = {};
        for (size_t part = first; part < end; ++part) {
          const Floats factor = exp2(load(result + part * partSize + lanes * width) - peak);
          value += load(result + part * partSize + lane * width + i) * splat(factor[lane] * inverse);
        }
        store(output + i, value);
      }
    }
  }
}

// MARK: Backward

template <class T>
void attentionBackward(const AttentionProblem<T>& problem) {
  using Unit = typename BestUnit<T>::type;
  using Word = typename Unit::Word;
  const int64_t size = problem.headSize;
  const int64_t words = roundUp(size / Unit::depth, lanes);
  const int64_t width = words * Unit::depth;
  const int64_t group = problem.heads / problem.keyHeads;
  const int64_t steps = size / Unit::depth, blockWords = block / Unit::depth;

  // One task: the heads and queries of one sequence that share a key head, or an equal slice of them when they are
  // many. The number of slices depends on the shapes alone: the order of every sum, and so every bit of the result, is
  // the same on any number of threads.
  struct Task {
    int64_t sequence, keyHead, slice, slices;
  };
  std::vector<Task> tasks;
  int64_t longest = 0, partialRows = 0;
  std::vector<int64_t> firstPartialRow;
  for (int64_t n = 0; n < problem.sequenceCount; ++n) {
    const auto& sequence = problem.sequences[n];
    if (sequence.keyCount == 0) continue;
    longest = std::max(longest, sequence.keyCount);
    const int64_t rows = roundUp(sequence.queryCount, block) * group;
    const int64_t slices = std::clamp<int64_t>(rows * sequence.keyCount / (4096 * 2048), 1, 8);
    for (int64_t head = 0; head < problem.keyHeads; ++head)
      for (int64_t slice = 0; slice < slices; ++slice) {
        tasks.push_back({n, head, slice, slices});
        firstPartialRow.push_back(partialRows);
        if (slices > 1) partialRows += sequence.keyCount;
      }
  }
  std::vector<int64_t> order(tasks.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
    const int64_t lengthA = problem.sequences[tasks[a].sequence].keyCount,
                  lengthB = problem.sequences[tasks[b].sequence].keyCount;
    return lengthA != lengthB ? lengthA > lengthB : a < b;
  });
  // Gradients of keys and values, [rows, 2, width], of tasks that are one of several slices.
  Scratch partial(partialRows * 2 * width * sizeof(float));
  float* const partials = reinterpret_cast<float*>(partial.data);

  struct ThreadScratch {
    Word *rows, *queryAcross, *queryDown, *gradientAcross, *gradientDown;
    Word *weightsAlong, *slopesAlong, *slopesDown;
    Word *keys, *keysDown, *values;
    float *scores, *slopes, *queryGradient, *keyGradient, *valueGradient, *logSumExp, *delta;
    int64_t bytes;
    ThreadScratch(char* from, int64_t longest, int64_t words, int64_t width) {
      Pieces pieces{from};
      const int64_t keyRows = roundUp(longest, block);
      rows = pieces.take<Word>(block * words);
      queryAcross = pieces.take<Word>(block * words);
      queryDown = pieces.take<Word>(block / Unit::depth * width);
      gradientAcross = pieces.take<Word>(block * words);
      gradientDown = pieces.take<Word>(block / Unit::depth * width);
      weightsAlong = pieces.take<Word>(block * block / Unit::depth);
      slopesAlong = pieces.take<Word>(block * block / Unit::depth);
      slopesDown = pieces.take<Word>(block * block / Unit::depth);
      scores = pieces.take<float>(block * block);
      slopes = pieces.take<float>(block * block);
      queryGradient = pieces.take<float>(block * width);
      logSumExp = pieces.take<float>(block);
      delta = pieces.take<float>(block);
      keys = pieces.take<Word>(keyRows * words);
      keysDown = pieces.take<Word>(keyRows / Unit::depth * width);
      values = pieces.take<Word>(keyRows * words);
      keyGradient = pieces.take<float>(keyRows * width);
      valueGradient = pieces.take<float>(keyRows * width);
      bytes = pieces.used;
    }
  };
  const int64_t threadBytes = ThreadScratch(nullptr, longest, words, width).bytes;
  Scratch threads(threadBytes * threadCount());

  const float toLog2 = problem.scale * log2e;
  parallelTasks(tasks.size(), [&](int64_t ordered, int64_t thread) {
    const Task task = tasks[order[ordered]];
    const auto& sequence = problem.sequences[task.sequence];
    const ThreadScratch scratch(threads.data + thread * threadBytes, longest, words, width);
    const int64_t shift = sequence.keyCount - sequence.queryCount;
    const int64_t keyRows = roundUp(sequence.keyCount, block);

    packRows<Unit>(scratch.keys, words, problem.key.at(sequence.keyStart, task.keyHead), problem.key.tokenStride,
                   sequence.keyCount, keyRows, size);
    packRows<Unit>(scratch.values, words, problem.value.at(sequence.keyStart, task.keyHead), problem.value.tokenStride,
                   sequence.keyCount, keyRows, size);
    packDown<Unit>(scratch.keysDown, width, scratch.keys, words, keyRows, width);
    __builtin_memset(scratch.keyGradient, 0, keyRows * width * sizeof(float));
    __builtin_memset(scratch.valueGradient, 0, keyRows * width * sizeof(float));

    const int64_t queryBlocks = roundUp(sequence.queryCount, block) / block;
    for (int64_t part = task.slice; part < queryBlocks * group; part += task.slices) {
      const int64_t head = task.keyHead * group + part % group;
      const int64_t firstQuery = part / group * block;
      const int64_t count = std::min(block, sequence.queryCount - firstQuery);
      const int64_t token = sequence.queryStart + firstQuery;
      const KeyRange visible = visibleKeys(problem, sequence, firstQuery, count);

      packRows<Unit>(scratch.rows, words, problem.query.at(token, head), problem.query.tokenStride, count, block, size);
      transpose(scratch.queryAcross, block, scratch.rows, words, block, words);
      packDown<Unit>(scratch.queryDown, width, scratch.rows, words, block, width);
      packRows<Unit>(scratch.rows, words, problem.outputGradient.at(token, head), problem.outputGradient.tokenStride,
                     count, block, size);
      transpose(scratch.gradientAcross, block, scratch.rows, words, block, words);
      packDown<Unit>(scratch.gradientDown, width, scratch.rows, words, block, width);
      for (int64_t row = 0; row < block; ++row) {
        Floats dot = {};
        if (row < count)
          for (int64_t i = 0; i < size; i += lanes)
            dot +=
                load(problem.outputGradient.at(token + row, head) + i) * load(problem.output.at(token + row, head) + i);
        scratch.delta[row] = sum(dot);
        scratch.logSumExp[row] = row < count ? problem.logSumExp[head * problem.tokens + token + row] : 1e30f;
      }
      __builtin_memset(scratch.queryGradient, 0, block * width * sizeof(float));

      for (int64_t j = visible.begin / block; j * block < visible.end; ++j) {
        // scores [keys, queries] = K Qᵀ, slopes [keys, queries] = V dOᵀ
        product<Unit, false>(block, blockVectors, steps, scratch.keys + j * block * words, words, 1,
                             scratch.queryAcross, block, scratch.scores, block);
        product<Unit, false>(block, blockVectors, steps, scratch.values + j * block * words, words, 1,
                             scratch.gradientAcross, block, scratch.slopes, block);
        const BlockMask mask{firstQuery + shift - j * block, sequence.keyCount - j * block, problem.window,
                             problem.causal};
        const bool masked = mask.needed();
        for (int v = 0; v < blockVectors; ++v) {
          const Floats logSumExp = load(scratch.logSumExp + v * lanes), delta = load(scratch.delta + v * lanes);
          for (int64_t key = 0; key < block; key += 2) {
            Floats slope[2];
            for (int i = 0; i < 2; ++i) {
              const int64_t at = (key + i) * block + v * lanes;
              Floats score = load(scratch.scores + at) * splat(toLog2) - logSumExp;
              if (masked) score = select(mask.allowed(key + i, v), score, splat(-__builtin_inff()));
              const Floats weight = exp2(score);
              slope[i] = weight * (load(scratch.slopes + at) - delta);
              storeAlong<Unit>(scratch.weightsAlong + at / Unit::depth, weight);
              storeAlong<Unit>(scratch.slopesAlong + at / Unit::depth, slope[i]);
            }
            storeDown<Unit>(scratch.slopesDown + key / Unit::depth * block + v * lanes, block, slope[0], slope[1]);
          }
        }
        const bool diagonal = mask.causal && mask.diagonal < block - 1;
        const auto below = diagonal ? product<Unit, true, Triangle::below> : product<Unit, true, Triangle::none>;
        const auto above = diagonal ? product<Unit, true, Triangle::above> : product<Unit, true, Triangle::none>;
        // dV += Pᵀ dO, dK += dSᵀ Q, dQ += dS K
        above(block, size / lanes, blockWords, scratch.weightsAlong, blockWords, 1, scratch.gradientDown, width,
              scratch.valueGradient + j * block * width, width, -mask.diagonal);
        above(block, size / lanes, blockWords, scratch.slopesAlong, blockWords, 1, scratch.queryDown, width,
              scratch.keyGradient + j * block * width, width, -mask.diagonal);
        below(block, size / lanes, blockWords, scratch.slopesDown, 1, block, scratch.keysDown + j * blockWords * width,
              width, scratch.queryGradient, width, mask.diagonal);
      }
      for (int64_t row = 0; row < count; ++row)
        for (int64_t i = 0; i < size; i += lanes)
          store(problem.queryGradient.at(token + row, head) + i,
                load(scratch.queryGradient + row * width + i) * splat(problem.scale));
    }

    for (int64_t row = 0; row < sequence.keyCount; ++row)
      for (int64_t i = 0; i < size; i += lanes) {
        const Floats key = load(scratch.keyGradient + row * width + i) * splat(problem.scale);
        const Floats value = load(scratch.valueGradient + row * width + i);
        if (task.slices == 1) {
          store(problem.keyGradient.at(sequence.keyStart + row, task.keyHead) + i, key);
          store(problem.valueGradient.at(sequence.keyStart + row, task.keyHead) + i, value);
        } else {
          float* sums = partials + (firstPartialRow[order[ordered]] + row) * 2 * width + i;
          store(sums, key);
          store(sums + width, value);
        }
      }
  });

  for (size_t first = 0; first < tasks.size(); first += tasks[first].slices) {
    const Task task = tasks[first];
    if (task.slices == 1) continue;
    const auto& sequence = problem.sequences[task.sequence];
    parallelFor(sequence.keyCount, 64, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row)
        for (int64_t i = 0; i < size; i += lanes) {
          Floats key = {}, value = {};
          for (int64_t slice = 0; slice < task.slices; ++slice) {
            const float* sums = partials + (firstPartialRow[first + slice] + row) * 2 * width + i;
            key += load(sums);
            value += load(sums + width);
          }
          store(problem.keyGradient.at(sequence.keyStart + row, task.keyHead) + i, key);
          store(problem.valueGradient.at(sequence.keyStart + row, task.keyHead) + i, value);
        }
    });
  }
}

inline void attentionForwardFloat(const AttentionProblem<float>& problem) {
  isDecoding(problem) ? attentionDecode(problem) : attentionForward(problem);
}
inline void attentionForwardBFloat16(const AttentionProblem<c10::BFloat16>& problem) {
  isDecoding(problem) ? attentionDecode(problem) : attentionForward(problem);
}
inline void attentionBackwardFloat(const AttentionProblem<float>& problem) { attentionBackward(problem); }
inline void attentionBackwardBFloat16(const AttentionProblem<c10::BFloat16>& problem) { attentionBackward(problem); }
