import Foundation

/// Reads the pickles of PyTorch checkpoints (protocols 2 to 5) and never runs code.
///
/// It knows the opcodes that dictionaries of tensors consist of and the globals of `TorchGlobal`. What a pickle would
/// *call* is interpreted here as data; every other opcode or global is an error that names it. Memory grows with the length of the pickle
/// only, and values are freed without recursion, so that neither size nor nesting of a hostile file can do harm.
struct Unpickler {
  private let bytes: ByteView
  private let url: URL
  /// After `load()`: where the pickle ended.
  private(set) var position: Int
  private var stack: [PickleValue] = []
  private var marks: [Int] = []
  private var memo: [Int: PickleValue] = [:]
  private let containers = PickleContainers()

  init(_ bytes: ByteView, at position: Int = 0, url: URL) {
    self.bytes = bytes
    self.position = position
    self.url = url
  }

  /// Runs the pickle up to its end and gives `body` the value. The value must not leave `body`: its containers are emptied afterwards.
  mutating func load<R>(_ body: (PickleValue) throws -> R) throws -> R {
    defer {
      stack = []
      memo = [:]
      containers.empty()
    }
    return try body(run())
  }

  private mutating func run() throws -> PickleValue {
    while true {
      let start = position
      let opcode: UInt8 = try integer()
      switch opcode {
      case 0x80:  // PROTO
        let version: UInt8 = try integer()
        guard (2...5).contains(version) else {
          throw FormatError(
            .unsupported, in: url, "the pickle has protocol \(version); 2 to 5 can be read",
            remedy: "Save the checkpoint again with torch.save")
        }
      case 0x95: _ = try integer(UInt64.self)  // FRAME
      case UInt8(ascii: "."): return try pop()
      case UInt8(ascii: "("): marks.append(stack.count)
      case UInt8(ascii: "0"): _ = try pop()
      case UInt8(ascii: "1"): _ = try popToMark()
      case UInt8(ascii: "2"): stack.append(try top())

      case UInt8(ascii: "N"): stack.append(.none)
      case 0x88: stack.append(.bool(true))
      case 0x89: stack.append(.bool(false))
      case UInt8(ascii: "J"): stack.append(.integer(Int(try integer(Int32.self))))
      case UInt8(ascii: "K"): stack.append(.integer(Int(try integer(UInt8.self))))
      case UInt8(ascii: "M"): stack.append(.integer(Int(try integer(UInt16.self))))
      case 0x8A: stack.append(try long(count: Int(try integer(UInt8.self))))
      case 0x8B: stack.append(try long(count: try count(Int32.self)))
      case UInt8(ascii: "G"): stack.append(.float(Double(bitPattern: try integer(UInt64.self).byteSwapped)))

      case UInt8(ascii: "X"): stack.append(.string(try text(try count(UInt32.self))))
      case 0x8C: stack.append(.string(try text(Int(try integer(UInt8.self)))))
      case 0x8D: stack.append(.string(try text(try count(UInt64.self))))
      case UInt8(ascii: "U"): stack.append(.bytes(try take(Int(try integer(UInt8.self)))))
      case UInt8(ascii: "T"): stack.append(.bytes(try take(try count(Int32.self))))
      case UInt8(ascii: "C"): stack.append(.bytes(try take(Int(try integer(UInt8.self)))))
      case UInt8(ascii: "B"): stack.append(.bytes(try take(try count(UInt32.self))))
      case 0x8E: stack.append(.bytes(try take(try count(UInt64.self))))

      case UInt8(ascii: ")"), UInt8(ascii: "]"), 0x8F: stack.append(sequence([]))
      case UInt8(ascii: "}"): stack.append(mapping())
      case 0x85: stack.append(sequence([try pop()]))
      case 0x86: try tuple(2)
      case 0x87: try tuple(3)
      case UInt8(ascii: "t"), UInt8(ascii: "l"), 0x91: stack.append(sequence(try popToMark()))
      case UInt8(ascii: "a"): try append([try pop()])
      case UInt8(ascii: "e"), 0x90: try append(try popToMark())
      case UInt8(ascii: "s"):
        let value = try pop()
        try set([try pop(), value])
      case UInt8(ascii: "u"): try set(try popToMark())
      case UInt8(ascii: "d"):
        let pairs = try popToMark()
        stack.append(mapping())
        try set(pairs)

      case UInt8(ascii: "q"): memo[Int(try integer(UInt8.self))] = try top()
      case UInt8(ascii: "r"): memo[try count(UInt32.self)] = try top()
      case 0x94: memo[memo.count] = try top()
      case UInt8(ascii: "h"): stack.append(try recall(Int(try integer(UInt8.self))))
      case UInt8(ascii: "j"): stack.append(try recall(try count(UInt32.self)))

      case UInt8(ascii: "c"):
        let module = try line()
        stack.append(try global(module, try line()))
      case 0x93:
        guard let name = try pop().string, let module = try pop().string else {
          throw malformed("names a global by something that is not a string")
        }
        stack.append(try global(module, name))
      case UInt8(ascii: "Q"): stack.append(try storage(try pop()))
      case UInt8(ascii: "R"), 0x81:
        let arguments = try pop()
        stack.append(try call(try pop(), arguments))
      case UInt8(ascii: "b"): try build(try pop())
      default:
        throw FormatError(
          .unsafe, in: url,
          "the pickle uses the opcode 0x\(String(opcode, radix: 16)) at byte \(start), which checkpoints of tensors do not need",
          remedy:
            "Load it in PyTorch only if you trust its author, and save its state dictionary as safetensors")
      }
    }
  }

  // MARK: Reading

  private mutating func integer<T: FixedWidthInteger>(_ type: T.Type = T.self) throws -> T {
    guard let value = bytes.load(T.self, at: position) else { throw malformed("ends before its end") }
    position += MemoryLayout<T>.size
    return value
  }

  private mutating func count<T: FixedWidthInteger>(_ type: T.Type) throws -> Int {
    guard let count = Int(exactly: try integer(T.self)), count >= 0 else {
      throw malformed("holds an impossible length")
    }
    return count
  }

  private mutating func take(_ count: Int) throws -> ByteView {
    guard let view = bytes.slice(at: position, count: count) else {
      throw malformed("claims \(count) bytes, but only \(bytes.count - position) are left")
    }
    position += count
    return view
  }

  private mutating func text(_ count: Int) throws -> String {
    let view = try take(count)
    guard
      let text = view.withUnsafeBytes({ String(validating: $0.bindMemory(to: UInt8.self), as: UTF8.self) })
    else {
      throw malformed("holds a string that is not UTF-8")
    }
    return text
  }

  /// The text up to the next line feed. Names of globals are short; a longer line is not one.
  private mutating func line() throws -> String {
    let start = position
    while position - start <= 1024 {
      if try integer(UInt8.self) == 0x0A {
        let end = position - 1
        position = start
        let line = try text(end - start)
        position = end + 1
        return line
      }
    }
    throw malformed("holds a name of more than 1024 bytes")
  }

  private mutating func long(count: Int) throws -> PickleValue {
    let view = try take(count)
    guard count <= 8 else { return .hugeInteger }
    var value: UInt64 = 0
    for index in 0..<count { value |= UInt64(view.load(UInt8.self, at: index) ?? 0) << UInt64(8 * index) }
    let unused = UInt64(64 - 8 * count)
    return .integer(count == 0 ? 0 : Int(Int64(bitPattern: value << unused) >> Int64(unused)))
  }

  // MARK: Stack

  private mutating func pop() throws -> PickleValue {
    // Nothing below the last mark may be taken away.
    guard stack.count > (marks.last ?? 0), let value = stack.popLast() else {
      throw malformed("takes a value from an empty stack")
    }
    return value
  }

  private func top() throws -> PickleValue {
    guard stack.count > (marks.last ?? 0), let value = stack.last else {
      throw malformed("reads a value from an empty stack")
    }
    return value
  }

  private mutating func popToMark() throws -> [PickleValue] {
    guard let mark = marks.popLast(), mark <= stack.count else { throw malformed("lacks a mark") }
    let values = Array(stack[mark...])
    stack.removeSubrange(mark...)
    return values
  }

  private func recall(_ index: Int) throws -> PickleValue {
    guard let value = memo[index] else { throw malformed("refers to a value that it does not hold") }
    return value
  }

  private func sequence(_ elements: [PickleValue]) -> PickleValue {
    let sequence = PickleSequence(elements)
    containers.sequences.append(sequence)
    return .sequence(sequence)
  }

  private func mapping() -> PickleValue {
    let mapping = PickleMapping()
    containers.mappings.append(mapping)
    return .mapping(mapping)
  }

  private mutating func tuple(_ count: Int) throws {
    var elements: [PickleValue] = []
    for _ in 0..<count { elements.append(try pop()) }
    stack.append(sequence(elements.reversed()))
  }

  // These are mutating although they change objects only: a call on an immutable `self` would be made on a copy from before its
  // arguments were popped.

  private mutating func append(_ values: [PickleValue]) throws {
    guard case .sequence(let target) = try top() else { throw malformed("appends to \(try top().kind)") }
    target.elements.append(contentsOf: values)
  }

  private mutating func set(_ values: [PickleValue]) throws {
    guard case .mapping(let target) = try top() else { throw malformed("sets a member of \(try top().kind)") }
    guard values.count.isMultiple(of: 2) else { throw malformed("has a key without a value") }
    for index in stride(from: 0, to: values.count, by: 2) {
      target.pairs.append((values[index], values[index + 1]))
    }
  }

  // MARK: What a pickle would call

  private func global(_ module: String, _ name: String) throws -> PickleValue {
    let global = PickleGlobal(module: module, name: name)
    guard TorchGlobal(global) != nil else {
      throw FormatError(
        .unsafe, in: url,
        "the pickle refers to \(quoted(global.description)), which a dictionary of tensors does not need; it was not run",
        remedy:
          "Load it in PyTorch only if you trust its author, and save its state dictionary as safetensors")
    }
    return .global(global)
  }

  /// A persistent id: `("storage", type, key, location, number of elements)`, and in files of before 1.6 a view of one behind it.
  private func storage(_ id: PickleValue) throws -> PickleValue {
    guard let parts = id.sequence, parts.count >= 5, parts[0].string == "storage",
      case .global(let global) = parts[1], case .storage(let type)? = TorchGlobal(global),
      let key = parts[2].string,
      let count = parts[4].integer, count >= 0
    else { throw malformed("refers to an object outside of it that is not a storage") }
    if parts.count > 5, case .none = parts[5] {
    } else if parts.count > 5 {
      throw FormatError(
        .unsupported, in: url, "the checkpoint holds a view of a storage, as PyTorch before 0.4 wrote",
        remedy: "Save the checkpoint again with torch.save")
    }
    return .storage(PickleStorage(key: key, type: type, elementCount: count))
  }

  private func call(_ function: PickleValue, _ arguments: PickleValue) throws -> PickleValue {
    guard case .global(let global) = function, let meaning = TorchGlobal(global),
      let arguments = arguments.sequence
    else { throw malformed("calls \(function.kind)") }
    func fail() -> FormatError { malformed("calls \(global) with arguments that do not fit") }

    switch meaning {
    case .orderedDictionary:
      let result = mapping()
      guard case .mapping(let target) = result else { throw fail() }
      if let first = arguments.first {
        guard arguments.count == 1, let pairs = first.sequence else { throw fail() }
        for pair in pairs {
          guard let pair = pair.sequence, pair.count == 2 else { throw fail() }
          target.pairs.append((pair[0], pair[1]))
        }
      }
      return result
    case .size, .set:
      guard arguments.count <= 1 else { throw fail() }
      guard let first = arguments.first else { return sequence([]) }
      guard let elements = first.sequence else { throw fail() }
      return sequence(elements)
    case .device:
      guard let name = arguments.first?.string else { throw fail() }
      return .string(name)
    case .rebuildParameter:
      guard let first = arguments.first, case .tensor = first else { throw fail() }
      return first
    case .rebuildTensor, .rebuildTensorV3:
      guard arguments.count >= 4, case .storage(let storage) = arguments[0],
        let offset = arguments[1].integer,
        let shape = arguments[2].integers, let strides = arguments[3].integers
      else { throw fail() }
      var type = storage.type
      if case .rebuildTensorV3 = meaning {
        guard arguments.count >= 7, case .global(let name) = arguments[6],
          case .type(let named)? = TorchGlobal(name)
        else { throw fail() }
        type = named
      }
      guard let type else { throw fail() }
      return .tensor(
        PickleTensor(storage: storage, type: type, offset: offset, shape: shape, strides: strides))
    case .storage, .type:
      throw fail()
    }
  }

  /// State for the object on top. That of an ordered dictionary is the versions of modules, which nothing here needs.
  private mutating func build(_ state: PickleValue) throws {
    guard case .mapping = try top() else { throw malformed("gives a state to \(try top().kind)") }
    guard case .mapping = state else { throw malformed("gives a dictionary \(state.kind) as its state") }
  }

  private func malformed(_ problem: String) -> FormatError {
    .malformed(url, "the pickle \(problem) (near byte \(position))")
  }
}

/// All containers of a pickle, so that they can be emptied one by one: freeing a list in a list in a list … would recurse, and
/// a list that contains itself would never be freed.
private final class PickleContainers {
  var sequences: [PickleSequence] = []
  var mappings: [PickleMapping] = []

  func empty() {
    for sequence in sequences { sequence.elements = [] }
    for mapping in mappings { mapping.pairs = [] }
  }
}
