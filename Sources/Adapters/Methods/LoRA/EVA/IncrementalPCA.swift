import Torch

/// The principal directions of rows that come batch by batch (Ross et al. 2008), as PEFT's `IncrementalPCA` finds them for
/// EVA: each batch is decomposed together with what is known, scaled by its singular values.
struct IncrementalPCA {
  let componentCount: Int
  private var seen = 0.0
  private var mean: Tensor?  // fp64 [features]
  private var variance: Tensor?  // fp64 [features]
  private(set) var components: Tensor?  // [components, features]
  private(set) var singularValues: Tensor?  // [components]
  /// How much of the rows' variance each direction holds.
  private(set) var explainedVarianceRatio: [Double] = []

  init(componentCount: Int) {
    self.componentCount = componentCount
  }

  /// - Parameter rows: fp32 `[n, features]`, at least as many as components.
  mutating func fit(_ rows: Tensor) throws {
    let count = Double(rows.size(0))
    let total = seen + count
    let wide = try rows.to(.float64)
    let sum = try wide.sum(0)
    let newMean = try ((mean.map { try $0 * seen + sum }) ?? sum) / total
    let newVariance = try updatedVariance(wide, sum: sum, count: count, total: total)

    let batch: Tensor
    if let mean, let components, let singularValues {
      let batchMean = try rows.mean(0)
      let correction = try (mean - batchMean.to(.float64)) * (seen / total * count).squareRoot()
      batch = try .concatenated([
        (singularValues.unsqueezed(1) * components).to(.float64), (rows - batchMean).to(.float64),
        correction.unsqueezed(0),
      ])
    } else {
      batch = try (wide - newMean).to(.float32)
    }
    // The same projection every time, so that directions move because the data do.
    let (_, s, vt) = try batch.leadingSingularValues(
      rank: 2 * componentCount, iterations: 4, generator: SeededGenerator(seed: 42))
    let kept = 0..<min(componentCount, s.count)
    components = try flipped(vt.slice(kept))
    singularValues = try s.slice(kept)
    let variances = try (newVariance * total).sum().item()
    explainedVarianceRatio = try singularValues!.squared().doubles().map { $0 / variances }
    (mean, variance, seen) = (newMean, newVariance, total)
  }

  private func updatedVariance(_ rows: Tensor, sum: Tensor, count: Double, total: Double) throws -> Tensor {
    let centred = try rows - sum / count
    let own = try centred.squared().sum(0) - centred.sum(0).squared() / count
    guard let variance, let mean else { return try own / total }
    let ratio = seen / count
    let shift = try (mean * seen / ratio - sum).squared() * (ratio / total)
    return try (variance * seen + own + shift) / total
  }

  /// The largest entry of each direction is positive, so that directions can be compared.
  private func flipped(_ directions: Tensor) throws -> Tensor {
    let places = try directions.absolute().argmax(1, keepingDimension: true)
    let largest = try directions.gathering(places, dimension: 1)  // [components, 1]
    return try directions * (largest.less(0).to(directions.dtype) * -2 + 1)
  }
}
