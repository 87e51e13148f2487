import NeuralNetworks
import Testing
import Torch

private final class Inner: Module {
  let qProj: Linear
  let scale: Parameter
  let comment = "no part"

  init(_ width: Int) throws {
    qProj = try Linear(width, 4, bias: true)
    scale = try Parameter(shape: [width])
  }
}

private final class Outer: Module {
  let embedTokens: Embedding
  let layers: [Inner]
  let layerNorm: RMSNorm
  let lmHead: Linear
  let empty: [Int] = []

  init(widths: [Int]) throws {
    embedTokens = try Embedding(10, 4)
    layers = try widths.map { try Inner($0) }
    layerNorm = try RMSNorm(4, epsilon: 1e-5, name: "TestRMSNorm")
    lmHead = Linear(weight: DenseWeight(embedTokens.weight))
  }

  override class var checkpointNames: [String: String] { ["layerNorm": "LayerNorm"] }
  override var typeName: String { "OuterModel" }
}

@Suite struct ModuleTests {
  @Test("parts are named as in checkpoints, in the order of declaration, tied ones under each name")
  func names() throws {
    let model = try Outer(widths: [4, 4])
    #expect(
      model.namedParameters().map(\.path) == [
        "embed_tokens.weight", "layers.0.scale", "layers.0.q_proj.weight", "layers.0.q_proj.bias",
        "layers.1.scale", "layers.1.q_proj.weight", "layers.1.q_proj.bias", "LayerNorm.weight",
        "lm_head.weight",
      ])
    #expect(
      model.namedModules().map(\.path) == [
        "", "embed_tokens", "layers.0", "layers.0.q_proj", "layers.1", "layers.1.q_proj", "LayerNorm",
        "lm_head",
      ])
    #expect(model.parameters().count == 8)
    #expect(model.parameterCount == 40 + 2 * (4 + 16 + 4) + 4)
    #expect(model.module(at: "layers.1.q_proj") === model.layers[1].qProj)
    #expect(model.module(at: "") === model)
    #expect(model.module(at: "layers.2") == nil && model.module(at: "layers") == nil)
  }

  @Test("the tree prints as PyTorch prints it, equal neighbours folded")
  func printing() throws {
    #expect(
      try Outer(widths: [4, 4, 8, 4]).description == """
        OuterModel(
          (embed_tokens): Embedding(10, 4)
          (layers): ModuleList(
            (0-1): 2 x Inner(
              (q_proj): Linear(in_features=4, out_features=4, bias=True)
            )
            (2): Inner(
              (q_proj): Linear(in_features=8, out_features=4, bias=True)
            )
            (3): Inner(
              (q_proj): Linear(in_features=4, out_features=4, bias=True)
            )
          )
          (LayerNorm): TestRMSNorm((4,), eps=1e-05)
          (lm_head): Linear(in_features=4, out_features=10, bias=False)
        )
        """)
  }

  @Test("parameters have no elements until they are given, and freezing stops their training")
  func parameters() throws {
    let model = try Outer(widths: [4])
    #expect(model.parameters().allSatisfy { !$0.isLoaded && !$0.isTrainable })
    for parameter in model.parameters() {
      parameter.value = try .ones(parameter.shape)
      try parameter.setTrainable(true)
    }
    #expect(model.parameters().allSatisfy { $0.isLoaded && $0.isTrainable })
    try model.freeze()
    #expect(model.parameters().allSatisfy { !$0.isTrainable })
  }

  @Test("activations are found by the names in configurations")
  func activations() throws {
    let x = try Tensor([Float(-2), -0.5, 0, 1, 3])
    for (name, wanted): (String, [Double]) in [
      ("silu", [-0.238406, -0.188770, 0, 0.731059, 2.857722]),
      ("swish", [-0.238406, -0.188770, 0, 0.731059, 2.857722]),
      ("gelu", [-0.045500, -0.154269, 0, 0.841345, 2.995950]),
      ("gelu_pytorch_tanh", [-0.045402, -0.154286, 0, 0.841192, 2.996363]),
      ("gelu_new", [-0.045402, -0.154286, 0, 0.841192, 2.996363]),
      ("relu", [0, 0, 0, 1, 3]),
    ] {
      let activation = try #require(Activation(name))
      for (found, value) in zip(try activation(x).doubles(), wanted) {
        #expect(abs(found - value) < 2e-6, "\(name)")
      }
      let gated = try activation.gate(x, Tensor([Float(2), 2, 2, 2, 2])).doubles()
      for (found, value) in zip(gated, wanted) { #expect(abs(found - 2 * value) < 4e-6, "\(name)") }
    }
    #expect(Activation("swoosh") == nil)
  }
}

// MARK: - Adapters around layers

private final class Adding: LinearAdapter {
  let amount: Double
  init(_ amount: Double) { self.amount = amount }
  func forward(_ input: Tensor, through layer: Linear, next: (Tensor) throws -> Tensor) throws -> Tensor {
    return try next(input) + amount
  }
}

private final class LowRank: LinearAdapter {
  let update: LowRankUpdate
  init(a: Tensor, b: Tensor, scale: Double) { update = LowRankUpdate(a: a, b: b, scale: scale, dropout: 0) }
  var lowRankUpdate: LowRankUpdate? { update }
  func forward(_ input: Tensor, through layer: Linear, next: (Tensor) throws -> Tensor) throws -> Tensor {
    try next(input) + input.linear(update.a).linear(update.b) * update.scale
  }
}

private final class Doubling: LinearAdapter {
  func forward(_ input: Tensor, through layer: Linear, next: (Tensor) throws -> Tensor) throws -> Tensor {
    try next(input) * 2
  }
}

@Suite struct LinearTests {
  @Test("adapters wrap the layer in their order, the last outermost")
  func order() throws {
    let layer = Linear(
      weight: DenseWeight(Parameter(try .ones([3, 2]))), bias: Parameter(try Tensor([Float(0), 10, 20])))
    let x = try Tensor([Float(1), 2], shape: [1, 2])
    #expect(try layer(x).floats() == [3, 13, 23])
    let adding = Adding(1)
    layer.adapters = [adding, Doubling()]
    #expect(try layer(x).floats() == [8, 28, 48])
    layer.adapters = [Doubling(), adding]
    #expect(try layer(x).floats() == [7, 27, 47])
    #expect(try layer.base(x).floats() == [3, 13, 23])
    // Any number of leading dimensions.
    #expect(try layer(Tensor.ones([2, 5, 2])).shape == [2, 5, 3])
  }

  @Test("layers stacked as a group give what they give one by one, adapters, biases and gradients included")
  func group() throws {
    try RandomState.seed(11)
    func layers() throws -> [Linear] {
      try RandomState.seed(12)
      return try [6, 2, 4].map {
        Linear(
          weight: DenseWeight(Parameter(try .normal([$0, 8]))), bias: Parameter(try .normal([$0])))
      }
    }
    let (plain, grouped) = (try layers(), try layers())
    let group = LinearGroup(grouped)
    let x = try Tensor.normal([5, 8])
    #expect(try group(x) == nil, "nothing is stacked yet")
    try group.stack()
    func together(_ layers: [Linear], _ x: Tensor) throws -> Tensor {
      try .concatenated(layers.map { try $0(x) }, dimension: 1)
    }
    expectClose(try #require(try group(x)), try together(plain, x))

    // Low-rank updates on the first and the last.
    for index in [0, 2] {
      let update = LowRank(
        a: try .normal([3, 8]), b: try .normal([grouped[index].outFeatures, 3]), scale: 0.5)
      plain[index].adapters = [update]
      grouped[index].adapters = [update]
    }
    var gradients: [Tensor] = []
    for output: (Tensor) throws -> Tensor in [{ try together(plain, $0) }, { try #require(try group($0)) }] {
      let input = try x.copy()
      try input.setRequiresGradient(true)
      try output(input).squared().sum().backward()
      gradients.append(try #require(input.gradient))
    }
    expectClose(gradients[0], gradients[1])
    expectClose(try #require(try group(x)), try together(plain, x))

    // An adapter that is more than a low-rank update, or another weight: one by one.
    grouped[1].adapters = [Adding(1)]
    #expect(try group(x) == nil)
    grouped[1].adapters = []
    grouped[1].weight = DenseWeight(Parameter(try .ones([2, 8])))
    #expect(try group(x) == nil)
  }

  /// In bf16, whose results are rounded once here and once there: 2⁻⁸ each.
  @Test("layers fused where their weights lie give what stacked ones give", arguments: [20, 130])
  func fusedInPlace(tokens: Int) throws {
    try RandomState.seed(13)
    func layers() throws -> [Linear] {
      try RandomState.seed(14)
      return try [64, 32, 48].map {
        Linear(
          weight: DenseWeight(Parameter(try Tensor.normal([$0, 96]).to(.bfloat16))),
          bias: Parameter(try Tensor.normal([$0]).to(.bfloat16)))
      }
    }
    let (there, moved) = (try layers(), try layers())
    let (fused, stacked) = (LinearGroup(there), LinearGroup(moved))
    try fused.fuse()
    try stacked.stack()
    #expect(stacked.plain != nil && (fused.plain == nil) == Engine.hasBFloat16Products)
    let update = LowRank(
      a: try Tensor.normal([4, 96]).to(.bfloat16), b: try Tensor.normal([32, 4]).to(.bfloat16), scale: 0.5)
    (there[1].adapters, moved[1].adapters) = ([update], [update])
    let x = try Tensor.normal([tokens, 96]).to(.bfloat16)
    let results = try [fused, stacked].map { group in
      let input = try x.copy()
      try input.setRequiresGradient(true)
      let output = try #require(try group(input))
      try output.to(.float32).squared().sum().backward()
      return (try output.detached().to(.float32), try #require(input.gradient).to(.float32))
    }
    #expect(try (results[0].0 - results[1].0).norm().item() / results[1].0.norm().item() < 1.0 / 256)
    #expect(try (results[0].1 - results[1].1).norm().item() / results[1].1.norm().item() < 1.0 / 128)

    // Stacking moves the parameters, once.
    let adapted = there[1].adapters
    there[1].adapters = []
    try fused.stack()
    let weight = try #require(fused.plain).weight
    #expect(weight.shape == [144, 96])
    #expect(
      try there[2].weight.dense().to(.float32).floats() == moved[2].weight.dense().to(.float32).floats())
    try fused.stack()
    #expect(fused.plain?.weight === weight)
    there[1].adapters = adapted
    #expect(fused.plain == nil)
  }

  private func expectClose(_ a: Tensor, _ b: Tensor) {
    #expect(throws: Never.self) {
      let distance = try (a - b).norm().item() / b.norm().item()
      #expect(distance < 1e-5)
    }
  }

  @Test("a weight of another type than the input is converted, and the gradient flows through")
  func types() throws {
    let weight = Parameter(try .ones([3, 2]))
    try weight.setTrainable(true)
    let layer = Linear(weight: DenseWeight(weight))
    let output = try layer(.ones([1, 2], dtype: .bfloat16))
    #expect(output.dtype == .bfloat16)
    try output.sum().backward()
    #expect(try #require(weight.value.gradient).floats() == [1, 1, 1, 1, 1, 1])
    #expect(weight.value.gradient?.dtype == .float32)
  }

  // MARK: Loss

  @Test("the state at a position predicts the next label of its own sequence")
  func supervision() {
    let labels: [Int32] = [-100, 5, 6, 7, -100, 8, 9, 4]
    // Sequences of 3, 0, 4 and 1 tokens: the first token of each is nobody's target.
    let supervision = Supervision(labels: labels, offsets: [0, 3, 3, 7, 8], ignoreIndex: -100)
    #expect(supervision.rows == [0, 1, 4, 5])
    #expect(supervision.targets == [5, 6, 8, 9])
    #expect(supervision.count == 4)
    #expect(Supervision(labels: [], offsets: [0], ignoreIndex: -100).count == 0)
    #expect(Supervision(labels: [1], offsets: [0, 1], ignoreIndex: -100).count == 0)
    #expect(Supervision(labels: [-100, -100], offsets: [0, 2], ignoreIndex: -100).count == 0)
  }

  @Test("the loss is the cross-entropy of the supervised positions, through adapters and biases too")
  func loss() throws {
    try RandomState.seed(8)
    let tokens = 700  // more than one chunk
    let labels = (0..<tokens).map { $0 % 7 == 0 ? -100 : Int32($0 % 13) }
    let supervision = Supervision(labels: labels, offsets: [0, 300, 301, tokens], ignoreIndex: -100)
    let rows = try Tensor(supervision.rows.map(Int64.init))
    let targets = try Tensor(supervision.targets.map(Int64.init))
    for dtype in [DType.float32, .bfloat16] {
      for kind in ["plain", "bias", "adapters"] {
        let weight = try Tensor.normal([13, 24]).to(dtype)
        let bias = Parameter(try Tensor.normal([13]).to(dtype))
        let head = Linear(weight: DenseWeight(Parameter(weight)), bias: kind == "bias" ? bias : nil)
        if kind == "adapters" { head.adapters = [Doubling(), Adding(1)] }
        try expectSame([.normal([tokens, 24])], dtype, tolerance: dtype == .bfloat16 ? 4e-2 : 2e-5) {
          try causalLossSum(hidden: $0[0], supervision: supervision, head: head)
        } plain: { values in
          var logits = try values[0].selecting(rows).linear(weight.to(.float32))
          if kind == "bias" { logits = try logits + bias.value.to(.float32) }
          if kind == "adapters" { logits = try logits * 2 + 1 }
          return try logits.crossEntropySum(targets)
        }
      }
    }
  }

  @Test("nothing supervised loses nothing")
  func emptyLoss() throws {
    let head = Linear(weight: DenseWeight(Parameter(try .ones([5, 4]))))
    let supervision = Supervision(labels: [-100, -100], offsets: [0, 2], ignoreIndex: -100)
    let loss = try causalLossSum(hidden: .ones([2, 4]), supervision: supervision, head: head)
    #expect(try loss.item() == 0 && loss.rank == 0)
  }

  @Test("a label outside the vocabulary throws", arguments: [false, true])
  func badLabel(_ withAdapter: Bool) throws {
    let head = Linear(weight: DenseWeight(Parameter(try .ones([5, 16]))))
    if withAdapter { head.adapters = [Doubling()] }
    let supervision = Supervision(labels: [0, 5], offsets: [0, 2], ignoreIndex: -100)
    #expect(throws: TorchError.self) {
      _ = try causalLossSum(hidden: .ones([2, 16]), supervision: supervision, head: head)
    }
  }

  @Test("a ragged layout has positions that begin anew in each sequence, or go on behind a cache")
  func layout() throws {
    let layout = try RaggedLayout(lengths: [3, 0, 2])
    #expect(layout.offsets == [0, 3, 3, 5] && layout.sequenceCount == 3 && layout.tokenCount == 5)
    #expect(layout.sequences == [0..<3, 3..<3, 3..<5])
    #expect(try layout.positions.integers() == [0, 1, 2, 0, 1])
    #expect(try layout.offsetsTensor.integers() == [0, 3, 3, 5] && layout.offsetsTensor.dtype == .int32)
    #expect(try RaggedLayout(lengths: [2, 1], starts: [7, 0]).positions.integers() == [7, 8, 0])
  }
}
