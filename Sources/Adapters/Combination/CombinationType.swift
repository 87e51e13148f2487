/// How several adapters become one: PEFT's `combination_type`.
public enum CombinationType: String, CaseIterable, Sendable, Hashable {
  /// Weighted sums of the As and of the Bs: cheap, and near the sum of the adapters only when they are alike.
  case linear
  /// As and Bs behind one another: exactly the weighted sum, of the sum of the ranks.
  case cat
  /// The weighted sum of the products, cut to a rank by singular values.
  case svd
  /// TIES (Yadav et al. 2023, arXiv:2306.01708): the largest entries of each, those of the majority's sign averaged.
  case ties
  case tiesSVD = "ties_svd"
  /// DARE (Yu et al. 2023, arXiv:2311.03099): random entries are dropped and the others enlarged, then summed.
  case dareLinear = "dare_linear"
  case dareLinearSVD = "dare_linear_svd"
  /// DARE's dropping, then TIES' signs.
  case dareTIES = "dare_ties"
  case dareTIESSVD = "dare_ties_svd"
  /// The largest entries of each, summed.
  case magnitudePrune = "magnitude_prune"
  case magnitudePruneSVD = "magnitude_prune_svd"

  /// Whether whole products are combined and decomposed again, instead of As and Bs.
  var decomposes: Bool { rawValue.hasSuffix("svd") }

  /// Whether entries are dropped, so that a density is needed.
  var prunes: Bool { pruning != .none }

  enum Pruning {
    case none
    /// The largest stay.
    case magnitude
    /// Random ones stay, enlarged so that the mean stays.
    case random
  }

  var pruning: Pruning {
    switch self {
    case .linear, .cat, .svd: .none
    case .ties, .tiesSVD, .magnitudePrune, .magnitudePruneSVD: .magnitude
    case .dareLinear, .dareLinearSVD, .dareTIES, .dareTIESSVD: .random
    }
  }

  /// Whether entries against the majority's sign are left out, and the others averaged.
  var electsSigns: Bool {
    switch self {
    case .ties, .tiesSVD, .dareTIES, .dareTIESSVD: true
    default: false
    }
  }
}

/// What the majority of several entries is: PEFT's `majority_sign_method`.
public enum MajoritySign: String, CaseIterable, Sendable, Hashable {
  /// The sign of their sum.
  case total
  /// The sign that more of them have.
  case frequency
}
