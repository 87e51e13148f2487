import Adapters
import Datasets
import Models
import NeuralNetworks
import Torch

extension Trainer {
  /// Lets an adapter that starts from training data (EVA) read the first epoch, before its parameters are counted.
  ///
  /// A run that is taken up has the checkpoint's start.
  static func startFromData(
    _ model: PEFTModel, _ arguments: TrainingArguments, _ plan: DataPlan, _ dataset: any ExampleSource
  ) throws {
    guard model.adapterAwaitingData != nil else { return }
    if let folder = try resumeFolder(arguments) { return try model.takeShape(from: folder) }
    let batches = plan.epoch(0)
    try model.initializeFromData(batchCount: batches.count) { index in
      let batch = Batch(try batches[index].map { try dataset.example(at: Int($0)) })
      let device = model.base.device
      return DataBatch(
        // Every token counts, as often as it is there.
        input: try ModelInput(batch, device: device, sharesPrefix: false),
        // Where the whole text has a label, all of it is read for that.
        supervised: batch.labels.indices.filter { !batch.targets.isEmpty || batch.labels[$0] != ignoreIndex })
    }
  }
}
