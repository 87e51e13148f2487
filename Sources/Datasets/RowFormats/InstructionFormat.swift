/// Alpaca's form: `instruction`, `output`, and optionally `input` and `system`.
///
/// The input follows the instruction after a blank line. Models without a chat template get the prompt that
/// Alpaca was trained with (https://github.com/tatsu-lab/stanford_alpaca).
public struct InstructionFormat: RowFormat {
  public static let name = "instruction"
  public static let columns = "instruction, output, optionally input, system"

  public static func fits(_ columns: Set<String>, options: RowFormatOptions) -> Bool {
    columns.isSuperset(of: ["instruction", "output"])
  }

  private let options: RowFormatOptions

  public init(options: RowFormatOptions) { self.options = options }

  public func sample(from row: Row) throws -> Sample {
    let instruction = try row.requiredText("instruction")
    let output = try row.requiredText("output")
    let input = try row.text("input") ?? ""
    var messages = [
      Sample.Conversation.message("user", input.isEmpty ? instruction : "\(instruction)\n\n\(input)"),
      Sample.Conversation.message("assistant", output),
    ]
    if let system = try options.systemPrompt(for: row, column: "system") {
      messages.insert(Sample.Conversation.message("system", system), at: 0)
    }
    let prompt =
      input.isEmpty
      ? "Below is an instruction that describes a task. Write a response that appropriately completes the"
        + " request.\n\n### Instruction:\n\(instruction)\n\n### Response:\n"
      : "Below is an instruction that describes a task, paired with an input that provides further context."
        + " Write a response that appropriately completes the request.\n\n### Instruction:\n\(instruction)\n\n"
        + "### Input:\n\(input)\n\n### Response:\n"
    return .conversation(.init(messages: messages, plain: .init(prompt: prompt, completion: output)))
  }
}
