/// A value on the unpickler's stack. Containers are objects, because a pickle fills them after it has made them.
enum PickleValue {
  case none
  case bool(Bool)
  case integer(Int)
  /// An integer of more than 64 bits; only its being one is kept.
  case hugeInteger
  case float(Double)
  case string(String)
  case bytes(ByteView)
  case sequence(PickleSequence)  // tuple, list, set
  case mapping(PickleMapping)
  case global(PickleGlobal)
  case storage(PickleStorage)
  case tensor(PickleTensor)

  /// What kind of value this is, in the words of error messages.
  var kind: String {
    switch self {
    case .none: "None"
    case .bool: "a boolean"
    case .integer, .hugeInteger: "an integer"
    case .float: "a number"
    case .string: "a string"
    case .bytes: "bytes"
    case .sequence: "a sequence"
    case .mapping: "a dictionary"
    case .global(let global): "the global \(global)"
    case .storage: "a storage"
    case .tensor: "a tensor"
    }
  }

  var integer: Int? { if case .integer(let value) = self { value } else { nil } }
  var string: String? { if case .string(let value) = self { value } else { nil } }
  var sequence: [PickleValue]? { if case .sequence(let value) = self { value.elements } else { nil } }

  /// The elements as integers, if that is what they are.
  var integers: [Int]? {
    guard let elements = sequence else { return nil }
    let integers = elements.compactMap(\.integer)
    return integers.count == elements.count ? integers : nil
  }
}

final class PickleSequence {
  var elements: [PickleValue]
  init(_ elements: [PickleValue]) { self.elements = elements }
}

final class PickleMapping {
  var pairs: [(key: PickleValue, value: PickleValue)] = []
}

/// A name that the pickle refers to. Nothing is imported: the few that are understood are listed in `TorchGlobal`.
struct PickleGlobal: CustomStringConvertible {
  var module: String
  var name: String
  var description: String { "\(module).\(name)" }
}

/// The memory that tensors of a checkpoint share, by the key of its entry.
struct PickleStorage {
  var key: String
  /// Nil for an untyped storage, whose elements are bytes.
  var type: TorchElement?
  var elementCount: Int
}

/// A tensor as a pickle describes it: a strided window over a storage.
struct PickleTensor {
  var storage: PickleStorage
  var type: TorchElement
  var offset: Int  // in elements
  var shape: [Int]
  var strides: [Int]  // in elements
}
