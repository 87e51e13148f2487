import Adapters
import Datasets
import Models
import NeuralNetworks
import Torch

/// What a run minimises: a loss over a batch, as a sum over what is supervised.
///
/// Sums, not means: the trainer divides by what the whole accumulation window supervises, so that every token weighs the
/// same in whatever batch it falls.
public protocol Objective {
  /// How much of `batch` is supervised: what the sum is a sum over.
  func weight(of batch: Batch) -> Int

  /// The summed loss, a scalar in fp32.
  func lossSum(_ model: PEFTModel, _ batch: Batch) throws -> Tensor
}

/// Next-token prediction over the supervised tokens: supervised fine-tuning and continued pre-training.
public struct CausalLanguageModeling: Objective {
  public init() {}

  public func weight(of batch: Batch) -> Int { batch.supervisedTokens }

  public func lossSum(_ model: PEFTModel, _ batch: Batch) throws -> Tensor {
    let base = try model.causalLanguageModel()
    let offsets = batch.offsets.map(Int.init)
    let input = try ModelInput(
      tokens: Tensor(batch.tokens.map(Int64.init), device: base.device),
      layout: RaggedLayout(offsets: offsets, positions: batch.positions, device: base.device))
    return try causalLossSum(
      hidden: base.hiddenStates(input),
      supervision: Supervision(labels: batch.labels, offsets: offsets, ignoreIndex: ignoreIndex),
      head: base.outputEmbedding)
  }
}
