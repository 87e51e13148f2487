import Adapters
import Files
import Formats
import Foundation
import JSON
import NeuralNetworks
import Torch

// A checkpoint is a folder `checkpoint-N` in `output_dir`:
//
//   adapter_config.json, adapter_model.safetensors   the adapter, as PEFT saves it; others in folders of their names
//   optimizer.safetensors                            moments, what the method needs beside its file, and the engine's
//                                                    random state
//   trainer_state.json                               step, place in the data, best metric
//
// It is written aside and renamed, so that it is whole or not there.

private let checkpointPrefix = "checkpoint-"

extension Trainer {
  /// Makes `output_dir` ready for checkpoints, so that a run that cannot save fails before its first step.
  ///
  /// - Throws: ``TrainingError`` when it cannot be written to, or belongs to another run.
  func prepareOutputFolder() throws {
    let root = arguments.outputDir
    do {
      try FileManager.default.createDirectory(atPath: root, withIntermediateDirectories: true)
      // Permissions alone do not tell: they mean nothing to root, and file systems can be read-only.
      let probe = URL(fileURLWithPath: root).appendingPathComponent(".write-test-\(UUID().uuidString)")
      try Data().write(to: probe)
      try FileManager.default.removeItem(at: probe)
    } catch {
      throw TrainingError(
        "`output_dir` is \(root), and checkpoints cannot be written there: \(error.localizedDescription) Name a folder that "
          + "may be created and written to.")
    }
    try Trainer.recoverCheckpoints(in: root)
    // A second run among the checkpoints of a first one would overwrite some, delete others for `save_total_limit`, and
    // be resumed from the wrong one.
    if arguments.resumeFromCheckpoint == nil, let newest = Trainer.checkpoints(in: root).last {
      throw TrainingError(
        "\(newest.url.path) is of an earlier run. Set `resume_from_checkpoint: true` to go on with that run, name "
          + "another `output_dir`, or remove its checkpoints.")
    }
  }

  /// Removes what a killed process left of a checkpoint, or puts it back.
  private static func recoverCheckpoints(in outputDirectory: String) throws {
    let root = URL(fileURLWithPath: outputDirectory, isDirectory: true)
    let names = (try? FileManager.default.contentsOfDirectory(atPath: root.path)) ?? []
    let interrupted = Set(
      names.compactMap { name in
        step(ofCheckpoint: name.split(separator: ".", maxSplits: 1).first ?? "").flatMap {
          name.contains(".") ? $0 : nil
        }
      })
    for step in interrupted {
      try AtomicDirectory.recover(root.appendingPathComponent("\(checkpointPrefix)\(step)"))
    }
  }

  private static func step(ofCheckpoint name: some StringProtocol) -> Int? {
    guard name.hasPrefix(checkpointPrefix), let step = Int(name.dropFirst(checkpointPrefix.count)), step >= 0
    else {
      return nil
    }
    return name == "\(checkpointPrefix)\(step)" ? step : nil  // not checkpoint-+5 or checkpoint-05
  }

  func checkpointURL(_ step: Int) -> URL {
    URL(fileURLWithPath: arguments.outputDir, isDirectory: true).appendingPathComponent(
      "\(checkpointPrefix)\(step)")
  }

  /// Writes the adapter and everything that going on needs.
  func saveCheckpoint() throws {
    guard lastSavedStep != state.globalStep else { return }
    clock.pause()
    if state.bestGlobalStep == state.globalStep {
      state.bestModelCheckpoint = checkpointURL(state.globalStep).path
    }
    try writeCheckpoint()
    clock.resume()
    lastSavedStep = state.globalStep
    try rotateCheckpoints()
  }

  private func writeCheckpoint() throws {
    for (key, parameter) in parameters where try !parameter.value.isAllFinite() {
      throw TrainingError(
        "`\(key)` has values that are no numbers after step \(state.globalStep); nothing was saved over what is good. Lower "
          + "learning_rate, set max_grad_norm, or warm up longer, and go on from an earlier checkpoint if there is one."
      )
    }
    try AtomicDirectory.write(checkpointURL(state.globalStep)) { folder in
      try model.savePretrained(folder.path, adapters: model.activeAdapters)
      try saveCompanions?(folder)
      guard !arguments.saveOnlyModel else { return }

      var tensors = try optimizer.state().map {
        TensorToWrite(name: "optimizer.\($0.name)", tensor: $0.tensor)
      }
      tensors += try model.trainingState.map {
        TensorToWrite(name: "adapter.\($0.name)", tensor: try $0.value())
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

  /// Removes the oldest checkpoints above `save_total_limit`; the best one and the newest one stay.
  ///
  /// transformers does the same, but with a limit of 1 it also removes the newest at the end of the run when it is not the
  /// best. Here it stays, so that the run can be made longer.
  private func rotateCheckpoints() throws {
    guard let limit = arguments.saveTotalLimit else { return }
    var checkpoints = Trainer.checkpoints(in: arguments.outputDir)
    while checkpoints.count > max(limit, 1) {
      // With a limit of one, the best and the last are kept, as a run must be able to go on.
      guard
        let victim = checkpoints.firstIndex(where: {
          $0.url.path != state.bestModelCheckpoint && $0.step != state.globalStep
        })
      else { return }
      try AtomicDirectory.remove(checkpoints[victim].url)
      checkpoints.remove(at: victim)
    }
  }

  /// The checkpoints of a run, oldest first.
  public static func checkpoints(in outputDirectory: String) -> [(step: Int, url: URL)] {
    let root = URL(fileURLWithPath: outputDirectory, isDirectory: true)
    let names = (try? FileManager.default.contentsOfDirectory(atPath: root.path)) ?? []
    return names.compactMap { name in
      let url = root.appendingPathComponent(name)
      guard let step = step(ofCheckpoint: name), url.isFolder else { return nil }
      return (step, url)
    }.sorted { $0.step < $1.step }
  }

  // MARK: Resuming

  func resumeIfAsked() throws {
    if let folder = try Trainer.resumeFolder(arguments) { try resume(from: folder) }
  }

  /// The checkpoint to go on from; nil when the run begins.
  static func resumeFolder(_ arguments: TrainingArguments) throws -> URL? {
    switch arguments.resumeFromCheckpoint {
    case nil: return nil
    case .directory(let path): return URL(fileURLWithPath: path, isDirectory: true)
    case .latest:
      let checkpoints = Trainer.checkpoints(in: arguments.outputDir)
      // A run that was killed before its first checkpoint begins again.
      guard let newest = checkpoints.last else { return nil }
      guard let resumable = checkpoints.last(where: { $0.url.holds(Self.stateFile) }) else {
        throw TrainingError(
          "\(newest.url.path) holds an adapter alone, as save_only_model writes it, so no run can go on from there. Name "
            + "another `output_dir`, or remove resume_from_checkpoint and these checkpoints to start anew.")
      }
      return resumable.url
    }
  }

  private static let stateFile = "trainer_state.json"

  /// Takes up everything that a checkpoint holds; what follows is what would have followed.
  private func resume(from folder: URL) throws {
    var saved = try savedState(in: folder)
    try checkSettings(saved, of: folder)
    do {
      try loadAdapterWeights(from: folder)
      let checkpoint = try Checkpoint.open(folder.appendingPathComponent("optimizer.safetensors"))
      try optimizer.restore(stepCount: saved.globalStep - saved.skippedSteps) {
        try checkpoint.tensor("optimizer.\($0)")
      }
      for tensor in model.trainingState {
        try tensor.load?(checkpoint.tensor("adapter.\(tensor.name)").to(.float32, device: model.base.device))
      }
      try RandomState.restore(checkpoint.tensor("random.cpu").array(of: UInt8.self))
      let device = model.base.device
      if device.kind == .cuda, checkpoint.contains("random.cuda") {
        try RandomState.restore(checkpoint.tensor("random.cuda").array(of: UInt8.self), device: device)
      }
    } catch {
      let others = Trainer.checkpoints(in: arguments.outputDir).map(\.url).filter {
        $0.standardizedFileURL != folder.standardizedFileURL && $0.holds(Self.stateFile)
      }
      throw TrainingError(
        "The checkpoint \(folder.path) is damaged: \(error) "
          + (others.last.map { "Or resume from \($0.path) (`resume_from_checkpoint: \($0.path)`)." }
            ?? "There is no other checkpoint to resume from; start anew without resume_from_checkpoint."))
    }

    try locateBestCheckpoint(&saved)
    let (maxSteps, fingerprint, lossScale) = (state.maxSteps, state.fingerprint, state.lossScale)
    state = saved
    // A run may go over to another precision, or come from one.
    state.lossScale = lossScale.map { saved.lossScale ?? $0 }
    (state.maxSteps, state.fingerprint) = (maxSteps, fingerprint)
    // An evaluation that is still due changes what the checkpoint says about the best model.
    lastSavedStep = state.evaluationIsDue ? -1 : state.globalStep
  }

  private func savedState(in folder: URL) throws -> TrainerState {
    let file = folder.appendingPathComponent(Self.stateFile)
    guard let data = try? Data(contentsOf: file) else {
      throw TrainingError(
        "\(file.path) cannot be read, so no run can go on from there. Name a checkpoint-N folder that a run with "
          + "save_only_model: false wrote.")
    }
    do {
      return try JSONValue(parsing: data).decode(TrainerState.self)
    } catch {
      throw TrainingError("\(file.path) is damaged: \(error). Resume from another checkpoint.")
    }
  }

  /// - Throws: ``TrainingError`` naming the first setting that makes this another run.
  private func checkSettings(_ saved: TrainerState, of folder: URL) throws {
    func differs(_ key: String, _ old: String, _ new: String) -> TrainingError {
      TrainingError(
        "The run in \(folder.path) had \(key) \(old), this one has \(new): going on would give neither run's result. "
          + "Restore the setting, or start anew without resume_from_checkpoint.")
    }
    for (key, value) in state.fingerprint.sorted(by: { $0.key < $1.key })
    where saved.fingerprint[key] != value {
      throw differs(key, saved.fingerprint[key] ?? "unset", value)
    }
    for name in model.activeAdapters where try !model.isWholeModel(name) {
      let (old, new) = (
        try PEFTModel.readConfiguration(adapterFolder(name, in: folder)).settings,
        model.configuration(name)?.settings ?? [:]
      )
      for (key, value) in new.sorted(by: { $0.key < $1.key }) where old[key] != value {
        throw differs(key, old[key] ?? "unset", value)
      }
    }
  }

  /// Finds the best checkpoint of a run whose folder has been moved.
  private func locateBestCheckpoint(_ saved: inout TrainerState) throws {
    guard let path = saved.bestModelCheckpoint else { return }
    let moved = URL(fileURLWithPath: arguments.outputDir, isDirectory: true)
      .appendingPathComponent(URL(fileURLWithPath: path).lastPathComponent)
    if moved.isFolder {
      saved.bestModelCheckpoint = moved.path
    } else if !URL(fileURLWithPath: path).isFolder {
      guard !arguments.loadBestModelAtEnd else {
        throw TrainingError(
          "\(path), the best checkpoint so far, is gone, and load_best_model_at_end needs it. Put it back, or set "
            + "load_best_model_at_end: false.")
      }
      saved.bestModelCheckpoint = nil
    }
  }

  private func adapterFolder(_ name: String, in folder: URL) -> URL {
    name == "default" ? folder : folder.appendingPathComponent(name)
  }

  func loadAdapterWeights(from folder: URL) throws {
    for name in model.activeAdapters {
      try model.loadWeights(name, from: adapterFolder(name, in: folder))
    }
  }

  /// What must be the same for a resumed run to be the run that was interrupted: the order of the data, and what counts
  /// batches. The adapter's settings must be, too.
  ///
  /// The learning rate, its schedule, the length of the run and the cadence of reports may be changed on purpose, for
  /// instance to train for longer, or more gently after a loss that was no number.
  func fingerprint() -> [String: String] {
    let tokens = trainDataset.lengths.reduce(0) { $0 + Int($1) }
    var fingerprint = [
      "examples": String(trainDataset.lengths.count), "tokens": String(tokens),
      "per_device_train_batch_size": String(arguments.perDeviceTrainBatchSize),
      "gradient_accumulation_steps": String(arguments.gradientAccumulationSteps),
      "seed": String(arguments.seed), "data_seed": String(arguments.dataSeed ?? arguments.seed),
      "packing": String(arguments.packing), "dataloader_drop_last": String(arguments.dataloaderDropLast),
      "train_sampling_strategy": arguments.trainSamplingStrategy.rawValue,
      "max_length": arguments.maxLength.map(String.init) ?? "none",
      "optim": arguments.optim.entry.stateName,
    ]
    fingerprint.merge(objective.fingerprint) { $1 }
    // A model directory has no place for how it was trained.
    for name in model.activeAdapters where (try? model.isWholeModel(name)) == true {
      for (key, value) in model.configuration(name)?.settings ?? [:] { fingerprint[key] = value }
    }
    return fingerprint
  }
}

extension AdapterConfiguration {
  /// The settings that decide what is trained, as text by key.
  fileprivate var settings: [String: String] {
    // Where the base lies and who wrote the file may change.
    let exempt: Set = [
      "auto_mapping", "base_model_name_or_path", "inference_mode", "peft_version", "revision",
    ]
    let fields = (try? JSONValue(parsing: Data(json.utf8)))?.objectValue ?? [:]
    var settings: [String: String] = [:]
    for (key, value) in fields where !exempt.contains(key) && !Self.learnedFields.contains(key) {
      // Lists of names are sets that PEFT writes in any order.
      let elements = value.arrayValue?.map { $0.serialized() }.sorted()
      settings[key] = elements.map { "[\($0.joined(separator: ", "))]" } ?? value.serialized()
    }
    return settings
  }
}

extension URL {
  fileprivate var isFolder: Bool {
    var isFolder: ObjCBool = false
    return FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) && isFolder.boolValue
  }

  fileprivate func holds(_ name: String) -> Bool {
    FileManager.default.fileExists(atPath: appendingPathComponent(name).path)
  }
}

extension Tensor {
  fileprivate func isAllFinite() throws -> Bool {
    try count == 0 || withoutGradient { try detached().isFinite().to(.float32).min().item() > 0 }
  }
}
