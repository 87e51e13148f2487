import CTorch

// MARK: - Element by element

extension Tensor {
  private func unary(_ name: String, _ operation: CTUnary) throws -> Tensor {
    try Tensor.checked(name, self) { ct_unary(operation, handle) }
  }

  private static func binary(_ name: String, _ operation: CTBinary, _ a: Tensor, _ b: Tensor) throws -> Tensor
  {
    try checked(name, a, b) { ct_binary(operation, a.handle, b.handle) }
  }

  private static func binary(_ name: String, _ operation: CTBinary, _ a: Tensor, _ b: Double) throws -> Tensor
  {
    try checked(name, a) { ct_binary_scalar(operation, a.handle, b) }
  }

  // Shapes broadcast as NumPy's do.
  public static func + (a: Tensor, b: Tensor) throws -> Tensor { try binary("add", CT_ADD, a, b) }
  public static func - (a: Tensor, b: Tensor) throws -> Tensor { try binary("subtract", CT_SUBTRACT, a, b) }
  public static func * (a: Tensor, b: Tensor) throws -> Tensor { try binary("multiply", CT_MULTIPLY, a, b) }
  public static func / (a: Tensor, b: Tensor) throws -> Tensor { try binary("divide", CT_DIVIDE, a, b) }
  public static func + (a: Tensor, b: Double) throws -> Tensor { try binary("add", CT_ADD, a, b) }
  public static func - (a: Tensor, b: Double) throws -> Tensor { try binary("subtract", CT_SUBTRACT, a, b) }
  public static func * (a: Tensor, b: Double) throws -> Tensor { try binary("multiply", CT_MULTIPLY, a, b) }
  public static func / (a: Tensor, b: Double) throws -> Tensor { try binary("divide", CT_DIVIDE, a, b) }
  public static prefix func - (a: Tensor) throws -> Tensor { try a.unary("negate", CT_NEGATE) }

  public func equal(_ other: Tensor) throws -> Tensor { try Tensor.binary("equal", CT_EQUAL, self, other) }
  public func equal(_ value: Double) throws -> Tensor { try Tensor.binary("equal", CT_EQUAL, self, value) }
  public func less(_ other: Tensor) throws -> Tensor { try Tensor.binary("less", CT_LESS, self, other) }
  public func less(_ value: Double) throws -> Tensor { try Tensor.binary("less", CT_LESS, self, value) }
  public func greater(_ value: Double) throws -> Tensor {
    try Tensor.binary("greater", CT_GREATER, self, value)
  }
  public func greaterOrEqual(_ other: Tensor) throws -> Tensor {
    try Tensor.binary("greater or equal", CT_GREATER_OR_EQUAL, self, other)
  }
  public func maximum(_ other: Tensor) throws -> Tensor {
    try Tensor.binary("maximum", CT_MAXIMUM, self, other)
  }
  public func minimum(_ other: Tensor) throws -> Tensor {
    try Tensor.binary("minimum", CT_MINIMUM, self, other)
  }
  public func power(_ exponent: Double) throws -> Tensor {
    try Tensor.binary("power", CT_POWER, self, exponent)
  }
  public func clamped(_ range: ClosedRange<Double>) throws -> Tensor {
    try Tensor.checked("clamp", self) { ct_clamp(handle, range.lowerBound, range.upperBound) }
  }

  public func absolute() throws -> Tensor { try unary("abs", CT_ABSOLUTE) }
  public func exp() throws -> Tensor { try unary("exp", CT_EXP) }
  public func log() throws -> Tensor { try unary("log", CT_LOG) }
  public func squareRoot() throws -> Tensor { try unary("sqrt", CT_SQRT) }
  public func reciprocalSquareRoot() throws -> Tensor { try unary("rsqrt", CT_RSQRT) }
  public func reciprocal() throws -> Tensor { try unary("reciprocal", CT_RECIPROCAL) }
  public func squared() throws -> Tensor { try unary("square", CT_SQUARE) }
  public func sin() throws -> Tensor { try unary("sin", CT_SIN) }
  public func cos() throws -> Tensor { try unary("cos", CT_COS) }
  public func tanh() throws -> Tensor { try unary("tanh", CT_TANH) }
  public func sigmoid() throws -> Tensor { try unary("sigmoid", CT_SIGMOID) }
  public func relu() throws -> Tensor { try unary("relu", CT_RELU) }
  public func silu() throws -> Tensor { try unary("silu", CT_SILU) }
  /// Gaussian error linear unit (Hendrycks & Gimpel 2016), exact or with the tanh approximation.
  public func gelu(approximateTanh: Bool = false) throws -> Tensor {
    try unary("gelu", approximateTanh ? CT_GELU_TANH : CT_GELU)
  }
  /// True where an element is neither infinite nor NaN.
  public func isFinite() throws -> Tensor { try unary("isfinite", CT_IS_FINITE) }
  public func logicalNot() throws -> Tensor { try unary("logical_not", CT_LOGICAL_NOT) }

  /// `self` where `condition` holds, else `other`.
  public func selected(where condition: Tensor, else other: Tensor) throws -> Tensor {
    try Tensor.checked("where", condition, self, other) { ct_where(condition.handle, handle, other.handle) }
  }

  /// `value` where `mask` holds.
  public func filled(where mask: Tensor, with value: Double) throws -> Tensor {
    try Tensor.checked("masked_fill", self, mask) { ct_masked_fill(handle, mask.handle, value) }
  }
}

// MARK: - Products

extension Tensor {
  public func matmul(_ other: Tensor) throws -> Tensor { try Tensor.binary("matmul", CT_MATMUL, self, other) }

  /// x Wᵀ + b: input `[…, in]`, weight `[out, in]`, bias `[out]` → `[…, out]`.
  public func linear(_ weight: Tensor, bias: Tensor? = nil) throws -> Tensor {
    try Tensor.checked("linear", self, weight) { ct_linear(handle, weight.handle, bias?.handle) }
  }
}

// MARK: - In place

extension Tensor {
  // None of these records a gradient: they are for parameters, buffers and optimizers.

  public func copyInPlace(_ source: Tensor) throws {
    try checkedStatus("copy", source) { ct_copy_into(handle, source.handle) }
  }

  public func fillInPlace(_ value: Double) throws {
    try checkedStatus("fill") { ct_fill(handle, value) }
  }

  /// self += scale · other
  public func addInPlace(_ other: Tensor, scale: Double = 1) throws {
    try checkedStatus("add", other) { ct_add_in_place(handle, other.handle, scale) }
  }

  public func scaleInPlace(_ factor: Double) throws {
    try checkedStatus("scale") { ct_scale_in_place(handle, factor) }
  }

  /// Writes the rows of `source` at `indices` of `dimension`.
  public func replaceInPlace(_ indices: Tensor, with source: Tensor, dimension: Int = 0) throws {
    try checkedStatus("index_copy", source) {
      ct_index_copy_in_place(handle, Int64(dimension), indices.handle, source.handle)
    }
  }
}
