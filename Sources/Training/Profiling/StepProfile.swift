import Foundation
import Torch

/// The shares of the parts of a training step: what `graft train --profile` prints.
public struct StepProfile: Sendable, Codable {
  /// What the time of a step is spent on.
  public enum Part: String, Sendable, Codable, CaseIterable {
    /// Matrix products outside of the loss, those of LoRA among them.
    case products
    case attention
    /// Normalisations, activations, rotary embedding, sums, conversions.
    case elementwise = "element-wise"
    /// The logits, their cross-entropy, and the gradient of both.
    case loss
    case optimizer
    /// Examples into batches.
    case data
    /// The engine's own: the graph, allocations, dispatch.
    case engine
    /// Code outside of the engine: the models and the loop themselves.
    case swift
  }

  public var steps: Int
  public var secondsPerStep: Double
  /// Mean number of processors at work.
  public var processors: Double
  /// Milliseconds of a step, by part.
  public var milliseconds: [String: Double]

  public init(_ profile: Profile, dataSeconds: Double) {
    let count = Double(max(profile.stretches, 1))
    var seconds: [Part: Double] = [.data: dataSeconds, .swift: profile.secondsOutside]
    for place in profile.places { seconds[Self.part(of: place.path), default: 0] += place.seconds }
    steps = profile.stretches
    secondsPerStep = (profile.seconds + dataSeconds) / count
    processors = profile.seconds > 0 ? profile.processorSeconds / profile.seconds : 0
    milliseconds = Dictionary(
      uniqueKeysWithValues: Part.allCases.map { ($0.rawValue, 1000 * (seconds[$0] ?? 0) / count) })
  }

  /// What the time in the last operation of a chain of calls belongs to.
  static func part(of path: [String]) -> Part {
    // All that these do is theirs, products included.
    if path.contains(where: { $0.contains("ross_entropy") || $0.contains("CrossEntropy") }) { return .loss }
    if path.contains(where: { $0.contains("adamw") || $0.contains("_step") }) { return .optimizer }
    let name = path.last ?? ""
    if name == "swift" { return .swift }
    for (part, names) in operations where names.contains(where: name.contains) { return part }
    return .engine
  }

  private static let operations: [(Part, [String])] = [
    (.attention, ["ttention"]),
    (
      .products,
      [
        "graft::sum_of_products", "graft::byte_product", "lora_linear", "LoRALinear", "aten::mm",
        "aten::addmm", "aten::bmm",
        "aten::baddbmm", "aten::linear",
        "mkldnn_linear", "aten::matmul", "dequantize",
      ]
    ),
    (
      .elementwise,
      [
        "rms_norm", "RMSNorm", "swiglu", "SwiGLU", "rotary", "Rotary", "aten::add", "aten::mul", "aten::div",
        "aten::copy_",
        "aten::sum", "aten::silu", "aten::gelu", "aten::sub", "aten::fill_", "aten::bernoulli_",
        "aten::index", "aten::embedding", "aten::cat", "_prefix", "Prefix",
        "aten::where", "aten::zero_", "aten::norm", "aten::linalg_vector_norm",
      ]
    ),
  ]
}

/// Measures the steps of a run, all but the first, which allocates what the others use again.
public final class StepProfiler {
  private let profiler = Profiler()
  private var data = Duration.zero
  private var steps = 0
  /// Of the measured steps, after ``finish()``: where flame graphs are drawn from.
  public private(set) var foldedStacks = ""

  public init() {}

  /// Runs what gets a step's examples.
  func data<Result>(_ body: () throws -> Result) rethrows -> Result {
    let clock = ContinuousClock()
    let start = clock.now
    defer { if steps > 0 { data += clock.now - start } }
    return try body()
  }

  /// Runs a step.
  func step<Result>(_ body: () throws -> Result) throws -> Result {
    defer { steps += 1 }
    return try steps == 0 ? body() : profiler.measure(body)
  }

  /// What was measured.
  ///
  /// - Throws: `TorchError` when the engine cannot hand its records over.
  public func finish() throws -> StepProfile {
    let profile = try profiler.finish()
    foldedStacks = profile.foldedStacks
    return StepProfile(profile, dataSeconds: data / .seconds(1))
  }
}

extension StepProfile: CustomStringConvertible {
  /// A table, the largest part first.
  public var description: String {
    let total = milliseconds.values.reduce(0, +)
    let lines = milliseconds.sorted { $0.value > $1.value }.map { part, time in
      String(
        format: "  %@ %9.1f ms %5.1f %%", part.padding(toLength: 13, withPad: " ", startingAt: 0), time,
        100 * time / total)
    }
    let head = String(
      format: "where a step's %.0f ms went (mean of %d steps, %.2f processors at work):",
      1000 * secondsPerStep, steps, processors)
    return ([head] + lines).joined(separator: "\n")
  }
}
