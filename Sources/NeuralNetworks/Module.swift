/// A part of a model: parameters and smaller modules under the names that checkpoints give them.
///
/// A subclass declares its parts as stored properties; their names, in snake case, are the names in checkpoints and in
/// the printed tree: `qProj` is `q_proj`. Parts whose name does not follow that rule are listed in
/// ``checkpointNames``. Arrays of modules are numbered: `layers.0`.
open class Module {
  public init() {}

  /// Names of parts that are not their property's name in snake case: `["layerNorm": "LayerNorm"]`.
  open class var checkpointNames: [String: String] { [:] }

  /// The name in the printed tree; families give the names that Hugging Face's classes have.
  open var typeName: String { String(describing: type(of: self)) }

  /// What stands between the parentheses of a module without parts: `in_features=896, out_features=128, bias=True`.
  open var detail: String { "" }

  /// Parts that come and go at run time, such as adapters; printed and counted behind the declared ones.
  open var attachments: [(name: String, part: Part)] { [] }

  public enum Part {
    case parameter(Parameter)
    /// A weight that is no parameter, because it is held in a quantized form.
    case storage(any WeightStorage)
    case module(Module)
    case list([Module])
  }

  /// The parts in the order of declaration, those of superclasses first.
  public final var parts: [(name: String, part: Part)] {
    var result: [(name: String, part: Part)] = []
    var mirrors: [Mirror] = []
    var mirror: Mirror? = Mirror(reflecting: self)
    while let current = mirror {
      mirrors.append(current)
      mirror = current.superclassMirror
    }
    let names = type(of: self).checkpointNames
    for mirror in mirrors.reversed() {
      for child in mirror.children {
        guard let label = child.label, let part = Part(child.value) else { continue }
        result.append((names[label] ?? label.snakeCased, part))
      }
    }
    return result + attachments
  }
}

extension Module.Part {
  /// Nil for properties that are not parts of the module tree.
  fileprivate init?(_ value: Any) {
    switch value {
    case let parameter as Parameter: self = .parameter(parameter)
    case let module as Module: self = .module(module)
    // An empty array of any type would pass for one of modules.
    case let modules as [Module] where !modules.isEmpty: self = .list(modules)
    case let storage as any WeightStorage:
      self = storage.parameter.map(Self.parameter) ?? .storage(storage)
    default: return nil
    }
  }
}

// MARK: - Walking the tree

extension Module {
  /// Every module below this one and itself, with its path: `model.layers.0.self_attn.q_proj`; the root's is empty.
  public func namedModules(prefix: String = "") -> [(path: String, module: Module)] {
    namedParts(prefix).map { ($0.path, $0.module) }
  }

  /// Every module below this one and itself, with its path and its parts, which are looked at once.
  private func namedParts(_ prefix: String = "") -> [(
    path: String, module: Module, parts: [(name: String, part: Part)]
  )] {
    let parts = parts
    var result = [(path: prefix, module: self, parts: parts)]
    for (name, part) in parts {
      let path = prefix.isEmpty ? name : "\(prefix).\(name)"
      switch part {
      case .parameter, .storage: break
      case .module(let module): result += module.namedParts(path)
      case .list(let modules):
        for (index, module) in modules.enumerated() {
          result += module.namedParts("\(path).\(index)")
        }
      }
    }
    return result
  }

  /// Every parameter with its path. A tied parameter appears under each of its names.
  public func namedParameters() -> [(path: String, parameter: Parameter)] {
    namedParts().flatMap { path, _, parts in
      parts.compactMap { name, part in
        guard case .parameter(let parameter) = part else { return nil }
        return (path.isEmpty ? name : "\(path).\(name)", parameter)
      }
    }
  }

  /// Each parameter once.
  public func parameters() -> [Parameter] {
    var seen: Set<ObjectIdentifier> = []
    return namedParameters().map(\.parameter).filter { seen.insert(ObjectIdentifier($0)).inserted }
  }

  /// The module at `path`, for instance `model.layers.0.mlp`.
  public func module(at path: String) -> Module? {
    namedModules().first { $0.path == path }?.module
  }

  /// Stops training of all parameters.
  public func freeze() throws {
    for parameter in parameters() where parameter.isTrainable { try parameter.setTrainable(false) }
  }

  /// Every quantized weight with its path.
  public func namedStorages() -> [(path: String, storage: any WeightStorage)] {
    namedParts().flatMap { path, _, parts in
      parts.compactMap { name, part in
        guard case .storage(let storage) = part else { return nil }
        return (path.isEmpty ? name : "\(path).\(name)", storage)
      }
    }
  }

  /// Bytes that the weights take as they are held, tied ones counted once.
  public var weightBytes: Int {
    let matrices =
      namedModules().compactMap { ($0.module as? Embedding)?.quantizedTable }
      + namedStorages().compactMap(\.storage.quantized)
    var seen: Set<ObjectIdentifier> = []
    return parameters().reduce(0) { $0 + ($1.isLoaded ? $1.value.byteCount : 0) }
      + matrices.reduce(0) { seen.insert(ObjectIdentifier($1.codes)).inserted ? $0 + $1.byteCount : $0 }
  }

  /// Number of elements, tied parameters counted once.
  public var parameterCount: Int {
    // A quantized table is counted by its parameter, and may be the output embedding's codes, too.
    var seen = Set(
      namedModules().compactMap { _, module in
        (module as? Embedding)?.quantizedTable.map { ObjectIdentifier($0.codes) }
      })
    return parameters().reduce(0) { $0 + $1.count }
      + namedStorages().reduce(0) { sum, entry in
        guard let codes = entry.storage.quantized?.codes, seen.insert(ObjectIdentifier(codes)).inserted else {
          return sum
        }
        return sum + entry.storage.outFeatures * entry.storage.inFeatures
      }
  }
}

// MARK: - The printed tree

extension Module: CustomStringConvertible {
  /// The tree as PyTorch prints it.
  public var description: String { printed().description }
}

extension String {
  /// `qProj` → `q_proj`. Names of properties are ASCII, and each walk through a model asks for thousands: no look at
  /// the properties of characters.
  fileprivate var snakeCased: String {
    var result: [UInt8] = []
    result.reserveCapacity(utf8.count + 4)
    for byte in utf8 {
      let isUppercase = (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(byte)
      if isUppercase, !result.isEmpty { result.append(UInt8(ascii: "_")) }
      result.append(isUppercase ? byte | 0x20 : byte)
    }
    return String(decoding: result, as: UTF8.self)
  }
}
