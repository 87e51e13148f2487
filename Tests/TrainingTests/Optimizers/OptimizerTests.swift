import Datasets
import Formats
import Foundation
import NeuralNetworks
import TestSupport
import Testing
import Torch
import Training

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

// The optimizers against those of PyTorch, transformers and bitsandbytes (Fixtures/make_optimizers.py).

@Suite("Optimizers", .serialized)
struct OptimizerTests {
  private static let names = ["matrix", "small", "vector"]
  private static let steps = 6

  private static func file() throws -> SafetensorsFile {
    try SafetensorsFile(Fixture.directory.appending(path: "optimizers.safetensors"))
  }

  private func arguments(_ optim: String, _ options: String? = nil) throws -> TrainingArguments {
    var arguments = TrainingArguments()
    arguments.optim = try #require(OptimizerChoice(optim))
    arguments.optimArgs = options
    arguments.weightDecay = 0.1
    arguments.outputDir = FileManager.default.temporaryDirectory.path(percentEncoded: false)
    return arguments
  }

  /// The parameters after the fixture's steps.
  private func run(_ arguments: TrainingArguments) throws -> [Tensor] {
    let file = try Self.file()
    let parameters = try Self.names.map { name in
      let parameter = Parameter(try file.tensor("initial.\(name)").copy())
      try parameter.setTrainable(true)
      return (key: name, parameter: parameter)
    }
    let optimizer = try arguments.optimizer(for: parameters)
    for step in 0..<Self.steps {
      let gradients = try Self.names.map { try file.tensor("gradient.\(step).\($0)").copy() }
      try optimizer.step(gradients, learningRate: 1e-2)
    }
    #expect(optimizer.stepCount == Self.steps)
    return try parameters.map { try $0.parameter.value.detached() }
  }

  /// How far two results lie from each other, relative to how far the reference went.
  private func distance(_ found: [Tensor], from reference: String) throws -> Double {
    let file = try Self.file()
    return try zip(Self.names, found).map { name, found in
      let expected = try file.tensor("\(reference).\(name)")
      let way = try (expected - file.tensor("initial.\(name)")).norm().item()
      return try (found - expected).norm().item() / way
    }.max() ?? .infinity
  }

  @Test(
    "each optimizer takes the steps of its original",
    arguments: [
      ("adamw_torch", nil, "adamw_torch"), ("adamw_torch_fused", nil, "adamw_torch"),
      ("paged_adamw_32bit", nil, "adamw_torch"), ("sgd", nil, "sgd"),
      ("sgd", "momentum=0.9, dampening=0.1", "sgd_momentum"),
      ("sgd", "momentum=0.9,nesterov=true", "sgd_nesterov"), ("adafactor", nil, "adafactor"),
      ("lion_32bit", nil, "lion_32bit"), ("paged_lion_32bit", nil, "lion_32bit"),
      ("adamw_8bit", nil, "adamw_8bit"), ("adamw_bnb_8bit", nil, "adamw_8bit"),
      ("paged_adamw_8bit", nil, "adamw_8bit"), ("lion_8bit", nil, "lion_8bit"),
      ("paged_lion_8bit", nil, "lion_8bit"),
    ])
  func steps(_ optim: String, _ options: String?, _ reference: String) throws {
    let found = try run(arguments(optim, options))
    // fp32 rounds in another order; a code of 8 bits on the edge between two, or a sign of Lion's, may fall to the other side.
    let tolerance = reference.contains("8bit") || reference.contains("lion") ? 3e-3 : 1e-5
    let distance = try distance(found, from: reference)
    #expect(distance < tolerance, "\(optim) \(options ?? ""): \(distance)")
  }

  @Test("8-bit AdamW lies nearer to fp32 than bitsandbytes on the CPU, and near to it")
  func bitsandbytes() throws {
    let found = try run(arguments("adamw_8bit"))
    #expect(try distance(found, from: "adamw_torch") < 0.06)
    // bitsandbytes' own distance from fp32 is 0.088: its quantizer is coarse near zero.
    #expect(try distance(found, from: "bnb_adamw_8bit") < 0.09)
    #expect(try distance(run(arguments("lion_8bit")), from: "bnb_lion_8bit") < 0.03)
  }

  @Test("the 8-bit data type is bitsandbytes', to the bit")
  func dynamicMap() throws {
    let file = try Self.file()
    for (name, signed) in [("map.signed", true), ("map.unsigned", false)] {
      #expect(try Tensor.BlockwiseState.map(signed: signed).floats() == file.tensor(name).floats())
    }
  }

  @Test("the 8-bit kernels compute what plain operations do", arguments: [256, 5000, 70_001])
  func kernels(count: Int) throws {
    try RandomState.seed(3)
    func zeros() throws -> Tensor.BlockwiseState {
      .init(codes: try .zeros([count], dtype: .uint8), scales: try .zeros([(count + 255) / 256]))
    }
    let initial = try Tensor.normal([count])
    let (kernel, plain) = (try initial.copy(), try initial.copy())
    let states = try (0..<6).map { _ in try zeros() }
    for step in 1...4 {
      let gradient = try Tensor.normal([count]).power(3)
      for (value, isPlain, state) in [(kernel, false, states[0...2]), (plain, true, states[3...5])] {
        try value.adamW8BitStep(
          gradient: gradient, mean: state[state.startIndex], square: state[state.startIndex + 1],
          learningRate: 1e-2, beta1: 0.9, beta2: 0.99, epsilon: 1e-8, weightDecay: 0.1, step: step,
          inPlainOperations: isPlain)
        try value.lion8BitStep(
          gradient: gradient, mean: state[state.startIndex + 2], learningRate: 1e-3, beta1: 0.9, beta2: 0.99,
          weightDecay: 0.1, inPlainOperations: isPlain)
      }
    }
    let moved = try (plain - initial).norm().item()
    #expect(try (kernel - plain).norm().item() < 2e-3 * moved)
    for (a, b) in zip(states[0...2], states[3...5]) {
      #expect(try relativeError(a.scales, b.scales) < 1e-5)
      let equal = try a.codes.equal(b.codes).to(.float32).mean().item()
      #expect(equal > 0.999)
    }
  }

  @Test("optim_args that the optimizer does not have, or that cannot be meant, are errors")
  func options() throws {
    for (optim, options, part) in [
      ("adamw_torch", "momentum=0.9", "it has none"), ("sgd", "momentun=0.9", "it has momentum, dampening"),
      ("sgd", "momentum", "name=value"), ("sgd", "momentum=2", "from 0.0 to 1.0"),
      ("sgd", "nesterov=true", "needs a momentum"), ("sgd", "nesterov=maybe", "true or false"),
    ] {
      let text = message { try arguments(optim, options).validate(hasValidationData: false) }
      #expect(text.contains("`optim_args`") && text.contains(part), "\(text)")
    }
    #expect(OptimizerChoice("rmsprop") == nil)
  }

  #if os(Linux)
    @Test("paged states survive a limit on memory that the plain ones do not")
    func limitedMemory() async {
      await #expect(processExitsWith: .success) {
        let count = 16 << 20  // 64 MB of fp32; two moments are 128 MB
        let parameter = Parameter(try .zeros([count]))
        let gradient = try Tensor.ones([count])
        // Private memory alone counts: what the file's pages take can be written to the disk.
        let status = try String(contentsOfFile: "/proc/self/status", encoding: .utf8)
        let line = status.split(separator: "\n").first { $0.hasPrefix("VmData:") }
        let used = line.flatMap { rlim_t($0.split(whereSeparator: \.isWhitespace)[1]) } ?? 0
        var limit = rlimit(rlim_cur: (used << 10) + (48 << 20), rlim_max: (used << 10) + (48 << 20))
        guard used > 0, setrlimit(__rlimit_resource_t(RLIMIT_DATA.rawValue), &limit) == 0 else { exit(2) }

        var arguments = TrainingArguments()
        arguments.outputDir = FileManager.default.temporaryDirectory.path(percentEncoded: false)
        func step() throws {
          let optimizer = try arguments.optimizer(for: [("weight", parameter)])
          try optimizer.step([gradient], learningRate: 0.5)
        }
        do {
          try step()
          exit(3)  // the limit did not hold
        } catch {}
        arguments.optim = OptimizerChoice("paged_adamw_32bit")!
        try step()
        // The first step of Adam is the learning rate's size.
        guard try abs(parameter.value.min().item() + 0.5) < 1e-6 else { exit(4) }
      }
    }
  #endif
}
