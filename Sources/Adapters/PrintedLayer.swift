import Models
import NeuralNetworks

/// What PEFT prints in place of a layer that adapters work on: a class of the method's around the layer, with what each adapter
/// has there under the adapter's name.
public struct PrintedLayer {
  /// Adapters' own modules or parameters of one kind: `lora_A`.
  public struct Slot {
    public enum Content {
      /// A module of the adapter's, nil when it has none there.
      case module(PrintedModule?)
      /// A parameter of the adapter's, nil when it has none there.
      case parameter(shape: [Int]?)
      /// A tensor that is not trained.
      case buffer(shape: [Int])
    }

    public let name: String
    public let content: Content

    public init(_ name: String, _ content: Content) {
      self.name = name
      self.content = content
    }
  }

  /// PEFT's class: `lora.Linear`.
  public let name: String
  /// In PEFT's order, those that are empty too.
  public let slots: [Slot]

  public init(_ name: String, slots: [Slot]) {
    self.name = name
    self.slots = slots
  }

  /// What can be told from the parameters alone: `lora_A.weight` `[r, in]` is a linear layer within a dictionary of
  /// modules, `ia3_l` `[out, 1]` a parameter within a dictionary of those.
  ///
  /// - Parameters:
  ///   - parameters: by what follows the layer's path.
  ///   - name: what PEFT prints for the class.
  public init(_ name: String, parameters: [(name: String, parameter: Parameter)]) {
    let biased = Set(parameters.compactMap { $0.name.hasSuffix(".bias") ? $0.name.dropLast(5) : nil })
    self.init(
      name,
      slots: parameters.compactMap { name, parameter in
        let shape = parameter.shape
        if name.hasSuffix(".weight"), shape.count == 2 {
          let slot = name.dropLast(".weight".count)
          let layer = PrintedModule.linear(
            inFeatures: shape[1], outFeatures: shape[0], bias: biased.contains(slot))
          return Slot(String(slot), .module(layer))
        }
        return name.hasSuffix(".bias") ? nil : Slot(name, .parameter(shape: shape))
      })
  }

  /// The layer with the adapters around it.
  ///
  /// - Parameter adapters: what each prints here, by its name; the first one's class and slots count.
  static func module(
    around layer: PrintedModule, _ adapters: [(name: String, layer: PrintedLayer)]
  ) -> PrintedModule {
    guard let first = adapters.first?.layer else { return layer }
    return PrintedModule(
      first.name,
      children: [("base_layer", layer)]
        + Slot.dictionaries(first.slots, adapters.map { ($0.name, $0.layer.slots) }))
  }
}

extension PrintedLayer.Slot {
  /// A dictionary for each of `slots`, with what each adapter has there under the adapter's name.
  static func dictionaries(_ slots: [Self], _ adapters: [(name: String, slots: [Self])])
    -> [(name: String, module: PrintedModule)]
  {
    slots.map { slot in
      let contents = adapters.compactMap { name, slots in
        slots.first { $0.name == slot.name }.map { (name, $0.content) }
      }
      let module: PrintedModule =
        switch slot.content {
        case .module:
          .moduleDict(
            contents.compactMap { name, content in
              if case .module(let module?) = content { (name, module) } else { nil }
            })
        case .parameter:
          .parameterDict(
            contents.compactMap { name, content in
              if case .parameter(let shape?) = content { (name, shape) } else { nil }
            })
        case .buffer:
          .bufferDict(
            contents.compactMap { name, content in
              if case .buffer(let shape) = content { (name, shape) } else { nil }
            })
        }
      return (slot.name, module)
    }
  }

  /// A slot for each of `names`, in this order, with the parameter of this name or none.
  static func parameters(_ names: [String], _ parameters: [(name: String, parameter: Parameter)])
    -> [PrintedLayer.Slot]
  {
    names.map { name in
      PrintedLayer.Slot(name, .parameter(shape: parameters.first { $0.name == name }?.parameter.shape))
    }
  }

  /// A slot for the dropout that OFT and BOFT have.
  static func multiplicativeDropout(_ name: String, _ probability: Double) -> PrintedLayer.Slot {
    PrintedLayer.Slot(
      name, .module(PrintedModule(probability > 0 ? "MultiplicativeDropoutLayer" : "Identity")))
  }
}

extension PEFTModel: CustomStringConvertible {
  /// The tree as PEFT prints it: the base with the adapters around their layers.
  public var description: String {
    let tree = base.printed { path, module in
      var module = module
      let layers = entries.compactMap { name, entry in
        entry.adapter.printedLayer(at: path).map { (name, $0) }
      }
      module = PrintedLayer.module(around: module, layers)
      let copies = entries.filter { $0.value.savedPaths.contains(path) }.keys.map { ($0, module) }
      guard !copies.isEmpty else { return module }
      return PrintedModule(
        "ModulesToSaveWrapper",
        children: [("original_module", module), ("modules_to_save", .moduleDict(copies))])
    }
    guard let first = entries.values.first else { return tree.description }
    let task = first.configuration.common.taskType.flatMap(ModelTask.init)
    let name = "PeftModel" + (task?.classSuffix ?? "")
    // Methods that leave the layers alone stand beside the model, not around it.
    let encoders = entries.compactMap { name, entry in
      entry.adapter.printedEncoder.map { (name: name, module: $0) }
    }
    guard encoders.isEmpty else {
      return PrintedModule(
        name,
        children: [
          ("base_model", tree), ("prompt_encoder", .moduleDict(encoders)),
          ("word_embeddings", base.inputEmbedding.printed()),
        ]
      ).description
    }
    let shared = entries.map { ($0, $1.adapter.printedShared) }
    let tuner = PrintedModule(
      type(of: first.configuration).tunerName,
      children: [("model", tree)] + PrintedLayer.Slot.dictionaries(first.adapter.printedShared, shared))
    return PrintedModule(name, children: [("base_model", tuner)]).description
  }
}
