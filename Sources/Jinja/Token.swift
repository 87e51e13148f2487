/// A piece of a template's source, as the parser sees it.
struct Token: Sendable {
  enum Kind: Sendable, Hashable {
    case data(String)
    case variableBegin, variableEnd
    case blockBegin, blockEnd
    case name(String)
    case string(String)
    case integer(Int)
    case float(Double)
    /// An operator or a bracket, by its own text.
    case symbol(String)
    case end
  }

  let kind: Kind
  let line: Int

  /// The token in the words of an error message.
  var description: String {
    switch kind {
    case .data: "template text"
    case .variableBegin: "begin of print statement"
    case .variableEnd: "end of print statement"
    case .blockBegin: "begin of statement block"
    case .blockEnd: "end of statement block"
    case .name(let name): name
    case .string: "string"
    case .integer: "integer"
    case .float: "float"
    case .symbol(let symbol): symbol
    case .end: "end of template"
    }
  }
}
