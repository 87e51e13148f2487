import Foundation
import JSON
import TestSupport
import Testing

/// Runs of the program as a user starts it.
@Suite("Command line")
struct CommandLineTests {
  private func folder(_ files: [String: String]) throws -> URL {
    let url = FileManager.default.temporaryDirectory.appending(path: "graft-cli-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
    for (name, text) in files {
      try text.write(to: url.appending(path: name), atomically: true, encoding: .utf8)
    }
    return url
  }

  static let commands = [
    "data convert", "inspect", "plan", "train", "evaluate", "generate", "chat", "classify", "merge",
    "combine", "convert", "export", "engine",
  ]

  @Test("every command has help with an example", arguments: commands)
  func help(command: String) throws {
    let outcome = try Program.run(command.split(separator: " ").map(String.init) + ["--help"])
    #expect(outcome.code == 0)
    #expect(outcome.output.contains("EXAMPLE"))
    #expect(outcome.output.contains("graft \(command)"))
    #expect(outcome.messages.isEmpty)
  }

  @Test("adapters are combined from their folders, and converted on their base")
  func adapters() throws {
    let tests = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    let fixtures = tests.appending(path: "AdaptersTests/Fixtures")
    let place = try folder([:])
    defer { try? FileManager.default.removeItem(at: place) }
    let parts = ["one", "two"].map { fixtures.appending(path: "combinations/\($0)").path }
    let combined = try Program.run(
      ["combine"] + parts + [
        "--weights", "1,-0.5", "--combination-type", "ties_svd", "--density", "0.5", "--output", "both",
      ], in: place)
    #expect(combined.code == 0 && combined.output.contains("rank 2"), "\(combined)")
    #expect(FileManager.default.fileExists(atPath: place.appending(path: "both/adapter_config.json").path))
    let again = try Program.run(["combine"] + parts + ["--output", "both"], in: place)
    #expect(again.code == 64 && again.messages.contains("not empty"))
    let sparse = try Program.run(
      ["combine"] + parts + ["--combination-type", "ties", "--output", "other"], in: place)
    #expect(sparse.code == 1 && sparse.messages.contains("`density`"))
    let base = tests.appending(path: "ModelsTests/Fixtures/llama-grouped-query").path
    let converted = try Program.run(
      ["convert", base, "--adapter", fixtures.appending(path: "pissa-llama").path, "--output", "plain"],
      in: place)
    #expect(converted.code == 0 && converted.output.contains("rank 8"), "\(converted)")
    let plain = try Program.run(
      ["convert", base, "--adapter", place.appending(path: "plain").path, "--output", "twice"], in: place)
    #expect(plain.code == 1 && plain.messages.contains("untouched base"))
  }

  @Test("a merge is quantized anew on request, within the error of the form, and says so")
  func requantize() throws {
    let tests = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    let base = tests.appending(path: "ModelsTests/Fixtures/llama-grouped-query").path
    let adapter = tests.appending(path: "AdaptersTests/Fixtures/attention").path
    let place = try folder([:])
    defer { try? FileManager.default.removeItem(at: place) }
    func merge(_ output: String, _ options: [String]) throws -> Program.Outcome {
      try Program.run(
        ["merge", base, "--adapter", adapter, "--output", output, "--requantize"] + options, in: place)
    }
    var drifts: [String: Double] = [:]
    for (form, option, key) in [
      ("nf4", "--load-in-4bit", "load_in_4bit"), ("int8", "--load-in-8bit", "load_in_8bit"),
    ] {
      let outcome = try merge(form, [option, "--json"])
      #expect(outcome.code == 0, "\(outcome)")
      let report = try JSONValue(parsing: outcome.output)
      #expect(report["requantized"] == true)
      drifts[form] = report["drift"]?.doubleValue
      // The folder was loaded again to measure that, and says how it is quantized.
      let config = try JSONValue(parsing: Data(contentsOf: place.appending(path: "\(form)/config.json")))
      #expect(config["quantization_config"]?[key] == true)
    }
    // Of normal numbers NF4 loses about 9 % of their size, a byte a row about 1 %. The random model of two layers, with an adapter far larger
    // than training makes one, gives that back some five times enlarged.
    let (four, eight) = (try #require(drifts["nf4"]), try #require(drifts["int8"]))
    #expect(four > 0.01 && four < 0.7, "\(four)")
    #expect(eight > 0 && eight < 0.07 && eight < four / 4, "\(eight)")
    let text = try merge("printed", ["--load-in-4bit"])
    #expect(
      text.code == 0 && text.output.contains("drift")
        && text.output.contains("quantizing the merged layers anew"))
    let plain = try merge("plain", [])
    #expect(plain.code == 1 && plain.messages.contains("Nothing of the base"), "\(plain)")
    #expect(!FileManager.default.fileExists(atPath: place.appending(path: "plain").path))
  }

  @Test("an adapter is exported as a GGUF file once, and what the format cannot hold is said")
  func export() throws {
    let tests = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    let base = tests.appending(path: "ModelsTests/Fixtures/llama-grouped-query").path
    let fixtures = tests.appending(path: "AdaptersTests/Fixtures")
    let place = try folder([:])
    defer { try? FileManager.default.removeItem(at: place) }
    func export(_ adapter: String, _ options: [String] = []) throws -> Program.Outcome {
      try Program.run(
        ["export", base, "--adapter", fixtures.appending(path: adapter).path, "--output", "a.gguf"] + options,
        in: place)
    }
    let refused = try export("dora-llama")
    #expect(
      refused.code == 1 && refused.messages.contains("use_dora") && refused.messages.contains("graft merge"))
    let written = try export("attention", ["--outtype", "f16"])
    #expect(written.code == 0 && written.output.contains("8 pairs of rank 8 for llama, in f16"), "\(written)")
    #expect(try Data(contentsOf: place.appending(path: "a.gguf")).starts(with: Array("GGUF".utf8)))
    let again = try export("attention")
    #expect(again.code == 64 && again.messages.contains("exists"))
    #expect(try Program.run(["export", base, "--output", "b.gguf"], in: place).code == 64)
  }

  @Test(
    "wrong usage exits with 64 and says what is wrong on standard error",
    arguments: [
      (["bake"], "bake"), (["train"], "configuration-file"),
      (["generate", "m", "p", "--temperature=-1"], "0 or more"),
      (["generate", "m", "p", "--raw", "--system", "s"], "--raw"),
      (["merge", "m", "--output", "o"], "--adapter"),
      (["chat", "m", "--adapter", "a=x", "--adapter", "a=y"], "same name"),
      (["inspect", "m", "--device", "tpu"], "tpu"),
      (["evaluate", "m", "d", "--predictions", "p"], "--generate"), (["engine", "--loud"], "--loud"),
    ])
  func usage(arguments: [String], fragment: String) throws {
    let outcome = try Program.run(arguments)
    #expect(outcome.code == 64)
    #expect(outcome.output.isEmpty)
    #expect(outcome.messages.contains(fragment), "\(outcome.messages)")
  }

  @Test("the version is a result")
  func version() throws {
    let outcome = try Program.run(["--version"])
    #expect(outcome.code == 0)
    #expect(outcome.output.wholeMatch(of: #/\d+\.\d+\.\d+\n/#) != nil)
  }

  @Test("a failure is one paragraph with what, where and remedy, and exit code 1")
  func failure() throws {
    let folder = try folder(["run.yaml": "model_name_or_path: m\ntrain_file: t.json\nlr: 1\n"])
    defer { try? FileManager.default.removeItem(at: folder) }
    let outcome = try Program.run(["train", "run.yaml"], in: folder)
    #expect(outcome.code == 1)
    #expect(outcome.output.isEmpty)
    #expect(
      outcome.messages == "error: run.yaml, line 3: `lr` is not a configuration key; write `learning_rate`.\n"
    )
  }

  @Test("a missing data file is found before the model is loaded")
  func missingData() throws {
    let folder = try folder(["run.yaml": "model_name_or_path: m\ntrain_file: t.json\n"])
    defer { try? FileManager.default.removeItem(at: folder) }
    let outcome = try Program.run(["train", "run.yaml", "--dry-run"], in: folder)
    #expect(outcome.code == 1)
    #expect(outcome.messages.contains("`train_file` names t.json, which does not exist"))
  }

  @Test("a dry run prints the whole configuration, which reads back")
  func dryRun() throws {
    let folder = try folder(["run.yaml": "model_name_or_path: m\ntrain_file: t.json\n", "t.json": "[]"])
    defer { try? FileManager.default.removeItem(at: folder) }
    let first = try Program.run(
      ["train", "run.yaml", "--dry-run", "--set", "r=4", "--set", "learning_rate=1e-4"], in: folder)
    #expect(first.code == 0, "\(first.messages)")
    #expect(first.output.contains("\nr: 4\n") && first.output.contains("\nlearning_rate: 0.0001\n"))
    try first.output.write(to: folder.appending(path: "saved.yaml"), atomically: true, encoding: .utf8)
    #expect(try Program.run(["train", "saved.yaml", "--dry-run"], in: folder).output == first.output)
  }

  @Test("data convert writes both files and reports on standard output")
  func dataConvert() throws {
    let folder = try folder(["in.csv": "ask,answer\n" + (1...10).map { "q\($0),a\($0)\n" }.joined()])
    defer { try? FileManager.default.removeItem(at: folder) }
    let outcome = try Program.run(
      [
        "data", "convert", "in.csv", "--columns", "question=ask,answer", "--train", "7", "--validation", "3",
        "--json",
      ],
      in: folder)
    #expect(outcome.code == 0, "\(outcome.messages)")
    #expect(try JSONValue(parsing: outcome.output)["validation_rows"] == 3)
    let rows = try JSONValue(parsing: Data(contentsOf: folder.appending(path: "train.json")))
    #expect(rows.arrayValue?.count == 7)
    #expect(rows[0] == ["question": "q1", "answer": "a1"])
  }

  @Test("a reader that goes away ends the program quietly")
  func brokenPipe() throws {
    let shell = Process()
    shell.executableURL = URL(filePath: "/bin/sh")
    shell.arguments = [
      "-c", "{ sleep 0.2; \"$0\" engine --verbose; echo code $? >&2; } | true", Program.url.path(),
    ]
    let messages = Pipe()
    shell.standardError = messages
    try shell.run()
    let text = String(decoding: try messages.fileHandleForReading.readToEnd() ?? Data(), as: UTF8.self)
    shell.waitUntilExit()
    #expect(text == "code 141\n")
  }

  @Test("the engine describes itself")
  func engine() throws {
    let outcome = try Program.run(["engine", "--json"])
    #expect(outcome.code == 0, "\(outcome.messages)")
    let report = try JSONValue(parsing: outcome.output)
    #expect(report["loaded_version"]?.stringValue?.hasPrefix("2.") == true)
    #expect(report["threads"]?.intValue ?? 0 >= 1)
  }

  private static let fixtures = URL(filePath: #filePath).deletingLastPathComponent()
    .deletingLastPathComponent()
  private static let model = fixtures.appending(path: "ModelsTests/Fixtures/llama-grouped-query").path

  @Test("inspect prints the tree and counts without loading weights")
  func inspect() throws {
    let outcome = try Program.run(["inspect", Self.model])
    #expect(outcome.code == 0, "\(outcome.messages)")
    #expect(outcome.output.hasPrefix("LlamaForCausalLM(\n  (model): LlamaModel(\n"))
    let report = try JSONValue(
      parsing: Program.run(["inspect", Self.model, "--json", "--dtype", "bfloat16"]).output)
    let parameters = try #require(report["parameters"]?.intValue)
    #expect(report["bytes"]?.intValue == 2 * parameters)
    #expect(report["architecture"] == "LlamaForCausalLM")
  }

  @Test("inspect lists what an adapter puts on which modules")
  func inspectAdapter() throws {
    let adapter = Self.fixtures.appending(path: "AdaptersTests/Fixtures/rank-pattern").path
    let outcome = try Program.run(["inspect", Self.model, "--adapter", adapter, "--json"])
    #expect(outcome.code == 0, "\(outcome.messages)")
    let part = try #require(JSONValue(parsing: outcome.output)["adapters"]?[0])
    #expect(part["method"] == "LORA")
    let targets = try #require(part["targets"]?.objectValue)
    #expect(targets.keys.contains("model.layers.0.self_attn.q_proj"))
    let shapes = targets.values.flatMap { $0.objectValue.map { Array($0.values) } ?? [] }
    let sizes = shapes.map { ($0.arrayValue ?? []).compactMap(\.intValue).reduce(1, *) }
    #expect(sizes.reduce(0, +) == part["parameters"]?.intValue)
  }

  @Test("a model that is not there is an error that says where it was looked for")
  func missingModel() throws {
    for command in [["inspect", "no/model"], ["generate", "no/model", "hello"], ["chat", "no/model"]] {
      let outcome = try Program.run(command)
      #expect(outcome.code == 1)
      #expect(outcome.output.isEmpty)
      #expect(outcome.messages.contains("There is no model at") && outcome.messages.contains("no/model"))
    }
  }

  @Test("prompts come from one place, and a prompt file is read before the model")
  func prompts() throws {
    #expect(try Program.run(["generate", "m", "p", "--prompt", "q"]).code == 64)
    let folder = try folder(["p.jsonl": "{\"words\": \"x\"}\n"])
    defer { try? FileManager.default.removeItem(at: folder) }
    let outcome = try Program.run(["generate", "no/model", "--prompt-file", "p.jsonl"], in: folder)
    #expect(outcome.code == 1)
    #expect(outcome.messages.contains("p.jsonl has no column `prompt`"))
  }

  @Test("an adapter that was not given cannot be used")
  func unknownAdapter() throws {
    let outcome = try Program.run(["generate", Self.model, "p", "--use", "legal"])
    #expect(outcome.code == 1)
    #expect(outcome.messages.contains("There is no adapter `legal`"))
  }
}
