import Adapters
import Formats
import Foundation
import JSON
import NeuralNetworks
import Torch

// A checkpoint is a folder `checkpoint-N` in `output_dir`:
//
//   adapter_config.json, adapter_model.safetensors   the adapter, as PEFT saves it; others in folders of their names
//   optimizer.safetensors                            moments, and the engine's random state
//   trainer_state.json                               step, place in the data, best metric
//
// It is written aside and renamed, so that it is whole or not there.

extension Trainer {
  func checkpointURL(_ step: Int) -> URL {
    URL(fileURLWithPath: arguments.outputDir, isDirectory: true).appendingPathComponent("checkpoint-\(step)")
  }

  func writeCheckpoint() throws {
    try AtomicDirectory.write(checkpointURL(state.globalStep)) { folder in
      try model.savePretrained(folder.path, adapters: model.activeAdapters)
      try saveCompanions?(folder)
      guard !arguments.saveOnlyModel else { return }

      var tensors = try optimizer.state().map {
        TensorToWrite(name: "optimizer.\($0.name)", tensor: $0.tensor)
      }
      tensors.append(TensorToWrite(name: "random.cpu", tensor: try Tensor(RandomState.capture(.cpu))))
      let device = model.base.device
      if device.kind == .cuda {
        tensors.append(TensorToWrite(name: "random.cuda", tensor: try Tensor(RandomState.capture(device))))
      }
      try Safetensors.write(tensors, to: folder.appendingPathComponent("optimizer.safetensors"))

      let json = try JSONValue.encode(state).serialized(indent: 2)
      try AtomicFile.write(Data(json.utf8), to: folder.appendingPathComponent("trainer_state.json"))
    }
  }

  /// Removes the oldest checkpoints above `save_total_limit`; the best one stays.
  func rotateCheckpoints() throws {
    guard let limit = arguments.saveTotalLimit else { return }
    var checkpoints = Trainer.checkpoints(in: arguments.outputDir)
    while checkpoints.count > max(limit, 1) {
      // With a limit of one, the best and the last are kept, as a run must be able to go on.
      guard
        let victim = checkpoints.firstIndex(where: {
          $0.url.path != state.bestModelCheckpoint && $0.step != state.globalStep
        })
      else { return }
      try FileManager.default.removeItem(at: checkpoints[victim].url)
      checkpoints.remove(at: victim)
    }
  }

  /// The checkpoints of a run, oldest first.
  public static func checkpoints(in outputDirectory: String) -> [(step: Int, url: URL)] {
    let root = URL(fileURLWithPath: outputDirectory, isDirectory: true)
    let names = (try? FileManager.default.contentsOfDirectory(atPath: root.path)) ?? []
    return names.compactMap { name in
      guard name.hasPrefix("checkpoint-"), let step = Int(name.dropFirst("checkpoint-".count)) else {
        return nil
      }
      return (step, root.appendingPathComponent(name))
    }.sorted { $0.step < $1.step }
  }

  // MARK: Resuming

  /// The folder that the arguments ask to go on from; nil for a new run, and for one that was killed before its first
  /// checkpoint.
  private var resumeFolder: URL? {
    switch arguments.resumeFromCheckpoint {
    case nil: nil
    case .directory(let path): URL(fileURLWithPath: path, isDirectory: true)
    case .latest:
      Trainer.checkpoints(in: arguments.outputDir).last { _, url in
        FileManager.default.fileExists(atPath: url.appendingPathComponent("trainer_state.json").path)
      }?.url
    }
  }

  /// The step that ``train()`` will go on from; nil when it begins anew.
  public var resumableStep: Int? {
    resumeFolder.flatMap { try? Data(contentsOf: $0.appendingPathComponent("trainer_state.json")) }
      .flatMap { try? JSONValue(parsing: $0).decode(TrainerState.self).globalStep }
  }

  func resumeIfAsked() throws {
    if let folder = resumeFolder { try resume(from: folder) }
  }

  /// Takes up everything that a checkpoint holds; what follows is what would have followed.
  private func resume(from folder: URL) throws {
    let file = folder.appendingPathComponent("trainer_state.json")
    guard let data = try? Data(contentsOf: file) else {
      throw TrainingError(
        "\(file.path) cannot be read, so no run can go on from there. Name a checkpoint-N folder that a run with "
          + "save_only_model: false wrote.")
    }
    let saved: TrainerState
    do {
      saved = try JSONValue(parsing: data).decode(TrainerState.self)
    } catch {
      throw TrainingError("\(file.path) is damaged: \(error). Resume from another checkpoint.")
    }
    for (key, value) in state.fingerprint.sorted(by: { $0.key < $1.key })
    where saved.fingerprint[key] != value {
      throw TrainingError(
        "The run in \(folder.path) had \(key) \(saved.fingerprint[key] ?? "unset"), this one has \(value): going on would "
          + "give neither run's result. Restore the setting, or start anew without resume_from_checkpoint.")
    }

    try loadAdapterWeights(from: folder)
    let checkpoint = try Checkpoint.open(folder.appendingPathComponent("optimizer.safetensors"))
    try optimizer.restore(stepCount: saved.globalStep) { try checkpoint.tensor("optimizer.\($0)") }
    try RandomState.restore(checkpoint.tensor("random.cpu").array(of: UInt8.self))
    let device = model.base.device
    if device.kind == .cuda, checkpoint.contains("random.cuda") {
      try RandomState.restore(checkpoint.tensor("random.cuda").array(of: UInt8.self), device: device)
    }
    let maxSteps = state.maxSteps
    state = saved
    state.maxSteps = maxSteps
    markResumed()
  }

  func loadAdapterWeights(from folder: URL) throws {
    for name in model.activeAdapters {
      try model.loadWeights(name, from: name == "default" ? folder : folder.appendingPathComponent(name))
    }
  }

  /// What must be the same for a resumed run to be the run that was interrupted.
  func fingerprint() -> [String: String] {
    let tokens = trainDataset.lengths.reduce(0) { $0 + Int($1) }
    return [
      "examples": String(trainDataset.lengths.count), "tokens": String(tokens),
      "per_device_train_batch_size": String(arguments.perDeviceTrainBatchSize),
      "gradient_accumulation_steps": String(arguments.gradientAccumulationSteps),
      "seed": String(arguments.seed), "data_seed": String(arguments.dataSeed ?? arguments.seed),
      "packing": String(arguments.packing),
      "train_sampling_strategy": arguments.trainSamplingStrategy.rawValue,
      "max_length": arguments.maxLength.map(String.init) ?? "none",
    ]
  }
}
