import Files
import Formats
import Foundation
import JSON
import Models

// PEFT's files say nothing of labels but, by its shape, how many the head has. Their names and the kind of problem lie beside
// them in a file of Graft's own, with the keys of `config.json`; PEFT leaves it alone.

extension ClassificationLabels {
  /// The file in an adapter's folder.
  public static let fileName = "labels.json"

  /// What the adapter in `directory` tells apart: by its ``fileName`` or, for one that PEFT saved, by the shape of its head.
  ///
  /// - Throws: ``AdapterError`` or ``ModelError`` when the folder does not tell.
  public init(adapter directory: URL) throws {
    let file = directory.appendingPathComponent(Self.fileName)
    if let data = try? Data(contentsOf: file) {
      do {
        try self.init(ModelConfiguration(json: JSONValue(parsing: data), source: file.path))
      } catch let error as JSONError {
        throw AdapterError("\(file.path) is not valid JSON: \(error). Save the adapter again.")
      }
      return
    }
    let checkpoint = try Checkpoint.open(directory)
    let heads = ModelTask.sequenceClassification.headNames
    let name = checkpoint.tensorNames.first { name in heads.contains { name.hasSuffix(".\($0).weight") } }
    guard let name, let count = try checkpoint.storedTensor(name).shape.first,
      (1...Self.maximumCount).contains(count)
    else {
      throw AdapterError(
        "The adapter at \(directory.path) is for SEQ_CLS, and holds neither a head (`score.weight`) nor \(Self.fileName), which "
          + "says what it tells apart. Train it anew with `task_type: SEQ_CLS`.")
    }
    self.init(count: count)
  }

  func write(toAdapter directory: URL) throws {
    var json: JSONValue = ["num_labels": .integer(count)]
    write(to: &json)
    let file = directory.appendingPathComponent(Self.fileName)
    try AtomicFile.write(Data((json.serialized(indent: 2) + "\n").utf8), to: file)
  }
}
