import Adapters
import ArgumentParser
import Foundation
import Graft
import Torch

/// `graft combine`: several adapters of LoRA, or of (IA)³, into one.
struct CombineCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "combine",
    abstract: "Combine adapters of one base, of LoRA or (IA)³, into a new one.",
    discussion: """
      The adapters' folders are read and a new folder is written; the base model is not needed. Types, as PEFT's \
      add_weighted_adapter has them:

        linear           weighted sums of the factors: cheap, near the sum when the adapters are alike
        cat              the exact weighted sum, of the sum of the ranks
        svd              the weighted sum, cut to a rank
        ties             the largest entries of the majority's sign, averaged (arXiv 2306.01708)
        dare_linear      random entries dropped, the others enlarged, summed (arXiv 2311.03099)
        dare_ties        dropped as in dare_linear, then averaged as in ties
        magnitude_prune  the largest entries, summed

      All but cat and linear have a form on whole products: ties_svd, dare_linear_svd, dare_ties_svd, \
      magnitude_prune_svd. Adapters of (IA)³ are summed with their weights (linear); weights that sum to 1 keep the base.

      EXAMPLE
        graft combine runs/medical runs/polite --weights 1.0,0.5 --combination-type ties --density 0.4 --output both
      """)

  @Argument(help: "Folders of the adapters.")
  var adapters: [String]

  @Option(
    help: "A weight for each adapter, separated by commas; below zero takes its effect away. Default: 1 each."
  )
  var weights: String?

  @Option(
    help:
      "How they are combined: \(CombinationType.allCases.map(\.rawValue).joined(separator: ", ")). Default: svd for LoRA."
  )
  var combinationType: CombinationType?

  @Option(help: "Share of the entries that stay, for ties, dare and magnitude_prune.")
  var density: Double?

  @Option(help: "Rank of the result for the types that end in svd. Default: the largest of the adapters'.")
  var svdRank: Int?

  @Option(help: "Quantile at which entries of a decomposition are cut off.")
  var svdClamp: Double?

  @Option(help: "What the majority's sign is: of the sum (total), or of more adapters (frequency).")
  var majoritySignMethod = MajoritySign.total

  @Option(help: "Seed of what dare drops.")
  var seed: UInt64 = 42

  @Option(name: .shortAndLong, help: "The folder to write; it must not exist or be empty.")
  var output: String

  func validate() throws {
    _ = try parsedWeights()
    let found = try? FileManager.default.contentsOfDirectory(atPath: output)
    guard found?.isEmpty ?? true else {
      throw ValidationError("--output \(output) is not empty; name another folder.")
    }
  }

  private func parsedWeights() throws -> [Double] {
    guard let weights else { return adapters.map { _ in 1 } }
    let numbers = weights.split(separator: ",").map { Double($0.trimmingCharacters(in: .whitespaces)) }
    guard numbers.count == adapters.count, numbers.allSatisfy({ $0?.isFinite == true }) else {
      throw ValidationError(
        "--weights \(weights): write a number for each of the \(adapters.count) adapters, such as 1.0,0.5.")
    }
    return numbers.map { $0! }
  }

  func run() async throws {
    try Engine.prepare()
    let combination = AdapterCombination(
      combinationType, weights: try parsedWeights(), svdRank: svdRank, svdClamp: svdClamp, density: density,
      majoritySign: majoritySignMethod, seed: seed)
    let settings = try combination.write(
      adapters.map { URL(fileURLWithPath: $0, isDirectory: true) },
      to: URL(fileURLWithPath: output, isDirectory: true))
    let type = combinationType ?? (settings is LoRAConfig ? .svd : .linear)
    let rank = (settings as? LoRAConfig).map { ", rank \($0.r)" } ?? ""
    try Console.result("wrote \(output): \(adapters.count) adapters by \(type.rawValue)\(rank)")
  }
}

extension CombinationType: ExpressibleByArgument {}
extension MajoritySign: ExpressibleByArgument {}
