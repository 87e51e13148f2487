import Foundation
import JSON
import OrderedCollections

/// A chat template: a text with Jinja's statements in it.
///
/// The language is Jinja 3.1 as Hugging Face's `apply_chat_template` sets it up: `trim_blocks`,
/// `lstrip_blocks`, `break` and `continue`, `{% generation %}`, `raise_exception`, `strftime_now`, and
/// a `tojson` that escapes nothing. Values behave as Python's do: their truth, their text, their
/// methods, their slices. Not available are `include`, `import` and `extends` (there is one template),
/// HTML escaping of everything (`autoescape`), `lipsum`, `random` and `urlize`; integers end at 64 bits;
/// and what `escape` returns is an ordinary string.
///
/// Rendering is sandboxed: private attributes and methods that change their receiver are refused, and
/// ``RenderingLimits`` bound time, memory and recursion. Whatever the source, it throws and never traps.
public struct Template: Sendable {
  /// The text the template was read from.
  public let source: String
  /// Whether the template marks what the model writes with `{% generation %}`.
  public let marksGeneration: Bool

  private let statements: [Statement]

  /// Reads a template.
  ///
  /// - Throws: ``TemplateError`` with the line of what is wrong.
  public init(_ source: String) throws(TemplateError) {
    self.source = source
    do {
      (statements, marksGeneration) = try Parser.parse(source)
    } catch let error as TemplateError {
      throw error
    } catch {
      throw TemplateError(.syntax, String(describing: error))
    }
  }

  /// Renders the template with `context` as its variables.
  public func render(
    _ context: OrderedDictionary<String, JSONValue>, options: RenderingOptions = .init()
  ) throws(TemplateError) -> String {
    try run(context, options: options, tracksGeneration: false).text
  }

  /// Renders the template and says which parts stem from `{% generation %}` blocks.
  public func renderTrackingGeneration(
    _ context: OrderedDictionary<String, JSONValue>, options: RenderingOptions = .init()
  ) throws(TemplateError) -> TrackedRendering {
    try run(context, options: options, tracksGeneration: true)
  }

  private func run(
    _ context: OrderedDictionary<String, JSONValue>, options: RenderingOptions, tracksGeneration: Bool
  ) throws(TemplateError) -> TrackedRendering {
    do {
      let interpreter = Interpreter(options: options, tracksGeneration: tracksGeneration)
      return try interpreter.render(statements, context: context)
    } catch let error as TemplateError {
      throw error
    } catch {
      throw TemplateError(.runtime, String(describing: error))
    }
  }
}

/// A rendered text and where `{% generation %}` blocks lie in it.
public struct TrackedRendering: Sendable, Hashable {
  public var text: String
  /// Ranges of UTF-8 bytes of `text`, in order.
  public var generated: [Range<Int>]
}

/// What a rendering may use, and the clock it reads.
public struct RenderingOptions: Sendable {
  public var limits: RenderingLimits
  /// What `strftime_now` formats; `nil` is the time of the call.
  public var now: Date?
  public var timeZone: TimeZone

  public init(limits: RenderingLimits = .init(), now: Date? = nil, timeZone: TimeZone = .current) {
    self.limits = limits
    self.now = now
    self.timeZone = timeZone
  }
}

/// Bounds on one rendering. The defaults are far above what conversations need.
public struct RenderingLimits: Sendable, Hashable {
  /// Steps of evaluation; an operation on many items or on a long text counts as several.
  public var steps: Int
  /// The bytes of the output and of every string on the way to it.
  public var stringBytes: Int
  /// How deeply values may nest.
  public var valueDepth: Int
  /// The bytes of stack that macros, loops and expressions may use.
  public var stackBytes: Int

  public init(
    steps: Int = 20_000_000, stringBytes: Int = 64 << 20, valueDepth: Int = 600,
    stackBytes: Int = 300_000
  ) {
    self.steps = steps
    self.stringBytes = stringBytes
    self.valueDepth = valueDepth
    self.stackBytes = stackBytes
  }
}
