import ArgumentParser
import Models

/// Which model a command works on: shared by all commands that load one.
struct ModelOptions: ParsableArguments {
  @Argument(help: "The model's folder or GGUF file.")
  var model: String

  @Option(
    name: .long,
    help: ArgumentHelp(
      "An adapter's folder, or NAME=FOLDER. May be repeated; the first one is active.", valueName: "folder"))
  var adapter: [String] = []

  @OptionGroup var compute: ComputeOptions

  /// The adapters with their names: the one given, or `default` for the first and the folder's name for others.
  var namedAdapters: [(name: String, folder: String)] {
    adapter.enumerated().map { index, text in
      if let equals = text.firstIndex(of: "="), !text[..<equals].contains("/") {
        return (String(text[..<equals]), String(text[text.index(after: equals)...]))
      }
      let last = text.split(separator: "/").last.map(String.init) ?? text
      return (index == 0 ? "default" : last, text)
    }
  }

  func validate() throws {
    let names = namedAdapters.map(\.name)
    if let empty = namedAdapters.first(where: { $0.name.isEmpty || $0.folder.isEmpty }) {
      throw ValidationError("--adapter \(empty.name)=\(empty.folder) lacks a name or a folder.")
    }
    guard Set(names).count == names.count else {
      throw ValidationError(
        "Two adapters have the same name; write --adapter NAME=FOLDER to tell them apart.")
    }
  }
}

/// Where and in which type a command computes.
struct ComputeOptions: ParsableArguments {
  @Option(help: "cpu, cuda, cuda:1 or mps; auto is the first GPU, or the processor without one.")
  var device = "auto"

  @Option(help: "Type of the base: auto (as in its files), float32 or bfloat16.")
  var dtype = "auto"

  @Flag(name: .customLong("load-in-4bit"), help: "Quantize linear layers to four bits while they are read.")
  var loadIn4bit = false

  @Flag(
    name: .customLong("load-in-8bit"), help: "Quantize linear layers to signed bytes while they are read.")
  var loadIn8bit = false

  @Option(name: .customLong("bnb-4bit-quant-type"), help: "Values of four bits: nf4 or fp4.")
  var quantType = "nf4"

  @Flag(
    name: .customLong("bnb-4bit-use-double-quant"), help: "Quantize the constants of four-bit blocks too.")
  var useDoubleQuant = false

  @Option(
    name: .customLong("bnb-4bit-compute-dtype"),
    help: "Type in which four-bit layers multiply: auto (the base's), float32 or bfloat16.")
  var computeType = "auto"

  @Flag(help: "Keep the blocks of a GGUF file packed, mapped from the file.")
  var ggufPacked = false

  @Option(help: "Processor threads (default: one for each core).")
  var threads: Int?

  func validate() throws {
    guard device.wholeMatch(of: #/auto|cpu|mps|cuda(:[0-9]{1,3})?/#) != nil else {
      throw ValidationError("--device \(device) is no device; write auto, cpu, cuda, cuda:1 or mps.")
    }
    guard ["auto", "float32", "bfloat16"].contains(dtype) else {
      throw ValidationError("--dtype \(dtype) is no type; write auto, float32 or bfloat16.")
    }
    guard BitsAndBytesConfig.QuantType(rawValue: quantType) != nil else {
      throw ValidationError("--bnb-4bit-quant-type \(quantType) is no type; write nf4 or fp4.")
    }
    guard ["auto", "float32", "bfloat16"].contains(computeType) else {
      throw ValidationError(
        "--bnb-4bit-compute-dtype \(computeType) is no type; write auto, float32 or bfloat16.")
    }
    guard [loadIn4bit, loadIn8bit, ggufPacked].count(where: { $0 }) < 2 else {
      throw ValidationError("--load-in-4bit, --load-in-8bit and --gguf-packed exclude each other; write one.")
    }
    if let threads, threads < 1 { throw ValidationError("--threads \(threads) is too few; write 1 or more.") }
  }
}
