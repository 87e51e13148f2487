/// Why a template could not be read or rendered.
public struct TemplateError: Error, Sendable, Hashable, CustomStringConvertible {
  /// What kind of failure it was.
  public enum Kind: Sendable, Hashable {
    /// The source is not a template.
    case syntax
    /// The template called `raise_exception`: it refuses this input.
    case raised
    /// Something undefined was used where a value is needed.
    case undefined
    /// An operation does not fit its operands, an argument is missing, a name is unknown.
    case runtime
    /// The sandbox refused it: a private attribute, a method that changes its receiver.
    case security
    /// One of ``RenderingLimits`` was reached.
    case limit
  }

  public var kind: Kind
  public var message: String
  /// The line of the template, counted from 1; `nil` while it is not yet known.
  public internal(set) var line: Int?

  init(_ kind: Kind, _ message: String, line: Int? = nil) {
    self.kind = kind
    self.message = message
    self.line = line
  }

  public var description: String {
    let place = line.map { "template line \($0): " } ?? ""
    return kind == .raised ? place + "the template refuses this input: " + message : place + message
  }

  static func runtime(_ message: String) -> TemplateError { .init(.runtime, message) }
}
