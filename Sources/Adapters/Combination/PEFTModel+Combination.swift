import Formats
import Foundation
import Torch

extension PEFTModel {
  /// Adds an adapter that is made of others on this model: PEFT's `add_weighted_adapter`. It is not put to work.
  ///
  /// - Throws: ``AdapterError`` for adapters that cannot be combined.
  public func addWeightedAdapter(
    _ adapters: [String], name: String, _ combination: AdapterCombination
  ) throws {
    try addWeightedAdapter(adapters, name: name, combination, mask: nil)
  }

  /// - Parameter mask: what DARE keeps.
  package func addWeightedAdapter(
    _ adapters: [String], name: String, _ combination: AdapterCombination,
    mask: ((_ shape: [Int], _ density: Double) throws -> Tensor)?
  ) throws {
    let combined = try combination(
      adapters.map { name in
        let entry = try entry(name)
        let tensors = try storedTensors(entry).map { (name: $0.name, tensor: try $0.value()) }
        return AdapterCombination.Stored(name: name, configuration: entry.settings, tensors: tensors)
      }, mask: mask)
    try addAdapter(name, combined.configuration)
    do {
      let tensors = Dictionary(uniqueKeysWithValues: combined.tensors.map { ($0.name, $0.tensor) })
      for stored in try storedTensors(entry(name)) {
        guard let tensor = tensors[stored.name] else { continue }
        try stored.load?(tensor.to(.float32, device: base.device))
      }
    } catch {
      try deleteAdapter(name)
      throw error
    }
  }
}

extension AdapterCombination {
  /// Combines the adapters in `folders`, as PEFT or Graft saved them, and writes the result to `output`.
  ///
  /// - Returns: the settings of the combined adapter.
  @discardableResult
  public func write(_ folders: [URL], to output: URL) throws -> any AdapterConfiguration {
    let adapters = try folders.map { folder -> Stored in
      let configuration = try PEFTModel.readConfiguration(folder)
      let checkpoint = try Checkpoint.open(folder)
      let tensors = try checkpoint.tensorNames.map {
        (name: $0, tensor: try checkpoint.tensor($0, dtype: .float32))
      }
      return Stored(name: folder.path, configuration: configuration, tensors: tensors)
    }
    let combined = try self(adapters)
    try PEFTModel.write(combined.configuration, combined.tensors, to: output)
    return combined.configuration
  }
}
