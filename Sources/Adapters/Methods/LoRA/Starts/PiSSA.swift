import Torch

extension LoRAInitialization {
  /// PiSSA: training starts in the weight's principal directions (Meng et al. 2024, arXiv:2404.02948).
  ///
  /// With W = U S Vᵀ and the leading r directions: B = U √(S / s), A = √(S / s) Vᵀ, and the base gives up s B A.
  public static let pissa = LoRAInitialization("pissa", changesBase: true) { target in
    try target.requireRankWithinWeight("pissa")
    return try principal(target.weight().singularValueDecomposition(), target)
  }

  /// PiSSA with the fast decomposition of Halko et al.: `"pissa_niter_N"`.
  ///
  /// The projection that it begins with is drawn from a generator of its own, so that loading the adapter finds the same
  /// directions again. (PEFT draws it from the run's generator: with it, the same adapter loaded twice differs by what the
  /// iterations leave open. Many iterations make this little.)
  public static func pissa(iterations: Int) -> LoRAInitialization {
    LoRAInitialization("pissa_niter_\(iterations)", changesBase: true) { target in
      try target.requireRankWithinWeight("pissa_niter_\(iterations)")
      let weight = try target.weight()
      let leading = try weight.leadingSingularValues(
        rank: target.rank, iterations: iterations, generator: SeededGenerator(seed: 42))
      return try principal(leading, target)
    }
  }

  private static func principal(_ parts: (u: Tensor, s: Tensor, vt: Tensor), _ target: LoRATarget) throws
    -> LoRAStart
  {
    let directions = 0..<target.rank
    let root = try (parts.s.slice(directions) / target.scale).squareRoot()  // [r]
    return LoRAStart(
      a: try (root.unsqueezed(1) * parts.vt.slice(directions)).contiguous(),
      b: try (parts.u.slice(directions, dimension: 1) * root).contiguous(), base: .withoutProduct)
  }

  static let pissaEntry = Entry(
    "\"pissa\" or \"pissa_niter_16\"",
    "PiSSA: the principal directions of the weight, which gives them up (arXiv 2404.02948); with a number of iterations the "
      + "decomposition is fast and approximate"
  ) { value in
    guard let name = value.stringValue?.lowercased() else { return nil }
    if name == "pissa" { return .pissa }
    guard name.hasPrefix("pissa_niter_"), let count = Int(name.dropFirst("pissa_niter_".count)),
      (0...1000).contains(count)
    else { return nil }
    return .pissa(iterations: count)
  }
}
