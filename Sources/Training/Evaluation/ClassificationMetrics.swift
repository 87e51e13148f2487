import OrderedCollections

/// How often classes are right, as scikit-learn's `accuracy_score` and `f1_score(average="macro")` count.
enum ClassificationMetrics {
  static let names = ["accuracy", "f1_macro"]

  /// Of one class a row. A class that is neither predicted nor wanted anywhere has no part in the mean of F1.
  static func ofClasses(predicted: [Int], wanted: [Int]) -> OrderedDictionary<String, Double> {
    let classes = Set(predicted).union(wanted).sorted()
    let scores = classes.map { label in
      f1(zip(predicted, wanted).map { ($0 == label, $1 == label) })
    }
    return ["accuracy": share(zip(predicted, wanted).map { $0 == $1 }), "f1_macro": mean(scores)]
  }

  /// Of any number of labels a row: a row is right when all of them are.
  static func ofLabels(predicted: [[Bool]], wanted: [[Bool]]) -> OrderedDictionary<String, Double> {
    let scores = (0..<(wanted.first?.count ?? 0)).map { label in
      f1(zip(predicted, wanted).map { ($0[label], $1[label]) })
    }
    return ["accuracy": share(zip(predicted, wanted).map { $0 == $1 }), "f1_macro": mean(scores)]
  }

  /// 2 · TP / (2 · TP + FP + FN), 0 where nothing is predicted or wanted.
  private static func f1(_ pairs: [(predicted: Bool, wanted: Bool)]) -> Double {
    let right = pairs.count { $0.predicted && $0.wanted }
    let wrong = pairs.count { $0.predicted != $0.wanted }
    return right + wrong == 0 ? 0 : 2 * Double(right) / Double(2 * right + wrong)
  }

  private static func share(_ right: [Bool]) -> Double { mean(right.map { $0 ? 1 : 0 }) }
}

/// How near numbers come: the mean squared error, and how they go with the wanted ones. With several numbers a row the
/// correlations are the means of each's.
enum RegressionMetrics {
  static let names = ["mse", "pearson", "spearman"]

  static func of(predicted: [[Float]], wanted: [[Float]]) -> OrderedDictionary<String, Double> {
    let errors = zip(predicted, wanted).flatMap { zip($0, $1).map { Double($0 - $1) } }
    let columns = (0..<(wanted.first?.count ?? 0)).map { column in
      (predicted.map { Double($0[column]) }, wanted.map { Double($0[column]) })
    }
    return [
      "mse": mean(errors.map { $0 * $0 }),
      "pearson": mean(columns.map { correlation($0, $1) }),
      "spearman": mean(columns.map { correlation(ranks($0), ranks($1)) }),
    ]
  }

  /// Pearson's coefficient; not a number where one side is constant.
  private static func correlation(_ a: [Double], _ b: [Double]) -> Double {
    let (meanA, meanB) = (mean(a), mean(b))
    var (products, squaresA, squaresB) = (0.0, 0.0, 0.0)
    for (x, y) in zip(a, b) {
      products += (x - meanA) * (y - meanB)
      squaresA += (x - meanA) * (x - meanA)
      squaresB += (y - meanB) * (y - meanB)
    }
    return products / (squaresA * squaresB).squareRoot()
  }

  /// Places in the order of size from 1; equal values share the mean of theirs.
  private static func ranks(_ values: [Double]) -> [Double] {
    let order = values.indices.sorted { values[$0] < values[$1] }
    var ranks = [Double](repeating: 0, count: values.count)
    var start = 0
    while start < order.count {
      var end = start + 1
      while end < order.count, values[order[end]] == values[order[start]] { end += 1 }
      for place in start..<end { ranks[order[place]] = Double(start + 1 + end) / 2 }
      start = end
    }
    return ranks
  }
}

private func mean(_ values: [Double]) -> Double {
  values.isEmpty ? .nan : values.reduce(0, +) / Double(values.count)
}
