import Models
import NeuralNetworks

/// Which modules an option names: by a regular expression, by names, or all linear layers.
public enum ModuleSelection: Sendable, Hashable {
  /// The whole path must match, as with Python's `re.fullmatch`.
  case pattern(String)
  /// A path is named when it equals an entry, or ends in a dot and the entry.
  case names([String])
  /// Every linear layer but the output embedding.
  case allLinear

  public func matches(_ path: String, in model: any PretrainedModel) throws -> Bool {
    switch self {
    case .pattern(let pattern): try RegularExpression(pattern).matchesWhole(path)
    case .names(let names): names.contains { path == $0 || path.hasSuffix("." + $0) }
    case .allLinear: model.module(at: path) is Linear && model.module(at: path) !== model.head
    }
  }
}

extension ModuleSelection: ExpressibleByArrayLiteral, ExpressibleByStringLiteral {
  public init(arrayLiteral elements: String...) { self = .names(elements) }

  /// `"all-linear"`, or a regular expression.
  public init(stringLiteral value: String) {
    self = value.lowercased() == "all-linear" ? .allLinear : .pattern(value)
  }
}

/// The options by which PEFT's methods choose modules.
public struct TargetModules: Sendable, Hashable {
  /// Nil takes the method's default for the model's family.
  public var targetModules: ModuleSelection?
  public var excludeModules: ModuleSelection?
  /// Only modules of these layers.
  public var layersToTransform: [Int]?
  /// What the list of layers is called in the path (`layers`, `h`); any name when nil.
  public var layersPattern: [String]?

  public init(
    targetModules: ModuleSelection? = nil, excludeModules: ModuleSelection? = nil,
    layersToTransform: [Int]? = nil,
    layersPattern: [String]? = nil
  ) {
    self.targetModules = targetModules
    self.excludeModules = excludeModules
    self.layersToTransform = layersToTransform
    self.layersPattern = layersPattern
  }

  /// The modules of `model` that are meant, in its order.
  ///
  /// - Parameters:
  ///   - defaults: the method's default names by `model_type`.
  ///   - modulesToSave: names that an adapter never goes into, because they are trained in full.
  /// - Throws: ``AdapterError`` when the options contradict each other or nothing is matched.
  func resolve(
    in model: any PretrainedModel, defaults: [String: [String]], modulesToSave: [String]?
  ) throws -> [(path: String, module: Module)] {
    try validate()
    let selection = try targetModules ?? defaultSelection(for: model, defaults)
    let modules = model.namedModules().filter { !$0.path.isEmpty }
    let linear = Set(
      modules.filter { $0.module is Linear && $0.module !== model.head }.map(\.path))

    var excluded = 0
    let chosen = try modules.filter { path, module in
      let isNamed = try isTarget(path, selection, allLinear: linear)
      guard isNamed else { return false }
      if try excludeModules?.matches(path, in: model) ?? false
        || modulesToSave?.contains(where: {
          path == $0 || path.contains(".\($0).") || path.hasSuffix(".\($0)")
        }) ?? false
      {
        excluded += 1
        return false
      }
      return true
    }
    guard !chosen.isEmpty else {
      let reason =
        excluded > 0 ? "all \(excluded) that `target_modules` names are excluded" : "none is called that"
      let examples = linear.sorted().prefix(3).joined(separator: ", ")
      throw AdapterError(
        "`target_modules` (\(selection.summary)) matches no module of this \(model.typeName): \(reason). "
          + "Its linear layers are called \(examples), …; `graft inspect` prints all names.")
    }
    return chosen
  }

  private func validate() throws {
    if layersToTransform != nil, case .pattern? = targetModules {
      throw AdapterError(
        "`layers_to_transform` cannot be used when `target_modules` is a regular expression; put the layers into it."
      )
    }
    if layersPattern?.isEmpty == false, layersToTransform == nil {
      throw AdapterError("`layers_pattern` says nothing without `layers_to_transform`; give both.")
    }
  }

  private func defaultSelection(for model: any PretrainedModel, _ defaults: [String: [String]]) throws
    -> ModuleSelection
  {
    guard let names = defaults[model.family.modelType] else {
      throw AdapterError(
        "There are no default `target_modules` for the model type `\(model.family.modelType)`; name them, or say "
          + "all-linear.")
    }
    return .names(names)
  }

  private func isTarget(_ path: String, _ selection: ModuleSelection, allLinear: Set<String>) throws -> Bool {
    switch selection {
    case .pattern(let pattern):
      return try RegularExpression(pattern).matchesWhole(path)
    case .allLinear:
      return try allLinear.contains(path) && isInLayers(path)
    case .names(let names):
      if names.contains(path) { return true }
      guard names.contains(where: { path.hasSuffix("." + $0) }) else { return false }
      return try isInLayers(path)
    }
  }

  private func isInLayers(_ path: String) throws -> Bool {
    guard let layers = layersToTransform, !layers.isEmpty else { return true }
    let patterns = layersPattern?.isEmpty == false ? layersPattern! : ["[^.]*"]
    for pattern in patterns {
      if let index = try RegularExpression(#"^.*\.\#(pattern)\.(\d+)\."#).firstGroup(in: path).flatMap({
        Int($0)
      }) {
        return layers.contains(index)
      }
    }
    return false
  }
}

extension ModuleSelection {
  /// As the user wrote it, for messages.
  fileprivate var summary: String {
    switch self {
    case .pattern(let pattern): pattern
    case .names(let names): names.joined(separator: ", ")
    case .allLinear: "all-linear"
    }
  }
}
