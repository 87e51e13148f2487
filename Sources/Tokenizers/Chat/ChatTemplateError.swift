/// Why a conversation could not be made into text, or a chat template not be found.
public struct ChatTemplateError: Error, Sendable, Hashable, CustomStringConvertible {
  public var message: String

  public init(_ message: String) { self.message = message }

  public var description: String { message }
}
