/// A module as PyTorch prints it: class, details, and the modules within.
///
/// ``Module`` makes one of itself; what is put around a layer when it is printed, such as PEFT's adapters, makes another of it.
public struct PrintedModule: Hashable, Sendable {
  /// The name of the class.
  public var name: String
  /// What stands between the parentheses of a module without children: `in_features=896, out_features=128, bias=True`.
  public var detail: String
  public var children: [Child]

  /// A named module within, or a list of them.
  public struct Child: Hashable, Sendable {
    public var name: String
    public var content: Content
  }

  public enum Content: Hashable, Sendable {
    case module(PrintedModule)
    case list([PrintedModule])
  }

  public init(_ name: String, _ detail: String = "", children: [(name: String, module: PrintedModule)] = []) {
    self.name = name
    self.detail = detail
    self.children = children.map { Child(name: $0.name, content: .module($0.module)) }
  }

  /// Modules under names, `ModuleDict` in PyTorch.
  public static func moduleDict(_ entries: [(name: String, module: PrintedModule)]) -> PrintedModule {
    PrintedModule("ModuleDict", children: entries)
  }

  /// Parameters of these shapes under names, `ParameterDict` in PyTorch.
  public static func parameterDict(_ entries: [(name: String, shape: [Int])]) -> PrintedModule {
    PrintedModule("ParameterDict", tensors("Parameter", entries))
  }

  /// Tensors of these shapes that are no parameters, `BufferDict` in PEFT.
  public static func bufferDict(_ entries: [(name: String, shape: [Int])]) -> PrintedModule {
    PrintedModule("BufferDict", tensors("Buffer", entries))
  }

  private static func tensors(_ kind: String, _ entries: [(name: String, shape: [Int])]) -> String {
    let lines = entries.map { name, shape in
      "  (\(name)): \(kind) containing: [torch.FloatTensor of size \(shape.map(String.init).joined(separator: "x"))]"
    }
    // One line stands between the parentheses, several below each other.
    return lines.count > 1 ? "\n\(lines.joined(separator: "\n").indented)\n" : lines.joined()
  }

  /// A linear layer's.
  public static func linear(inFeatures: Int, outFeatures: Int, bias: Bool) -> PrintedModule {
    let bias = bias ? "True" : "False"
    return PrintedModule("Linear", "in_features=\(inFeatures), out_features=\(outFeatures), bias=\(bias)")
  }

  /// A dropout layer's; without dropout there is an `Identity` in its place.
  public static func dropout(_ probability: Double) -> PrintedModule {
    probability > 0
      ? PrintedModule("Dropout", "p=\(probability), inplace=False") : PrintedModule("Identity")
  }
}

extension PrintedModule: CustomStringConvertible {
  /// The tree, equal neighbours in a list folded: `(0-23): 24 x Qwen2DecoderLayer(`.
  public var description: String {
    guard !children.isEmpty else { return "\(name)(\(detail))" }
    let lines = children.map { child in
      switch child.content {
      case .module(let module): "(\(child.name)): \(module)"
      case .list(let modules): "(\(child.name)): \(Self.describe(list: modules))"
      }
    }
    return "\(name)(\n\(lines.joined(separator: "\n").indented)\n)"
  }

  private static func describe(list modules: [PrintedModule]) -> String {
    var runs: [(range: ClosedRange<Int>, module: PrintedModule)] = []
    for (index, module) in modules.enumerated() {
      if let last = runs.last, last.module == module {
        runs[runs.count - 1].range = last.range.lowerBound...index
      } else {
        runs.append((index...index, module))
      }
    }
    let lines = runs.map { range, module in
      range.count == 1
        ? "(\(range.lowerBound)): \(module)"
        : "(\(range.lowerBound)-\(range.upperBound)): \(range.count) x \(module)"
    }
    return lines.isEmpty ? "ModuleList()" : "ModuleList(\n\(lines.joined(separator: "\n").indented)\n)"
  }
}

extension Module {
  /// This module as PyTorch prints it.
  ///
  /// - Parameters:
  ///   - path: of this module; the root's is empty.
  ///   - replace: gives what is printed in place of the module at a path, itself when nothing is.
  public func printed(
    at path: String = "", replacing replace: (_ path: String, PrintedModule) -> PrintedModule = { $1 }
  ) -> PrintedModule {
    var result = PrintedModule(typeName, detail)
    for (name, part) in parts {
      let below = path.isEmpty ? name : "\(path).\(name)"
      let content: PrintedModule.Content
      switch part {
      case .parameter, .storage: continue
      case .module(let module): content = .module(module.printed(at: below, replacing: replace))
      case .list(let modules):
        content = .list(
          modules.enumerated().map { $1.printed(at: "\(below).\($0)", replacing: replace) })
      }
      result.children.append(PrintedModule.Child(name: name, content: content))
    }
    return replace(path, result)
  }
}

extension String {
  fileprivate var indented: String {
    split(separator: "\n", omittingEmptySubsequences: false).map { "  \($0)" }.joined(separator: "\n")
  }
}
