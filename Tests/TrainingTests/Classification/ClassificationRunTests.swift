import Adapters
import Datasets
import Foundation
import Generation
import JSON
import Models
import TestSupport
import Testing
import Torch
import Training

extension TrainerTests {
  /// Whole runs with `task_type: SEQ_CLS`, in this process and by the program.
  @Suite("Runs of classifiers")
  struct ClassificationRuns {
    /// Texts of letters, which are early ones when their last letter is.
    private static func rows(_ count: Int, seed: UInt64) -> [(text: String, isEarly: Bool)] {
      var generator = ShuffleGenerator(seed: seed)
      let letters = Array("abcdefgh")
      return (0..<count).map { _ in
        let places = (0..<2 + generator.below(4)).map { _ in Int(generator.below(8)) }
        return (String(places.map { letters[$0] }), places.last! < 4)
      }
    }

    private static func jsonl(_ rows: [(text: String, isEarly: Bool)], _ label: (Bool) -> String) -> String {
      rows.map { #"{"text": "\#($0.text)", "label": \#(label($0.isEarly))}"# }.joined(separator: "\n")
    }

    /// A folder with a model, rows and a configuration.
    private func prepare(label: (Bool) -> String = { $0 ? #""early""# : #""late""# }) throws
      -> TemporaryFolder
    {
      let folder = try TemporaryFolder()
      try writeLetterModel(to: folder.url.appending(path: "model"))
      for (name, count, seed) in [("train", 256, 3), ("val", 32, 4)] {
        try Self.jsonl(Self.rows(count, seed: UInt64(seed)), label)
          .write(toFile: folder.path("\(name).jsonl"), atomically: true, encoding: .utf8)
      }
      try """
      model_name_or_path: \(folder.path("model"))
      train_file: \(folder.path("train.jsonl"))
      validation_file: \(folder.path("val.jsonl"))
      task_type: SEQ_CLS
      dtype: float32
      device: \(testDevice)
      num_threads: 1
      max_steps: 120
      per_device_train_batch_size: 8
      max_length: 32
      learning_rate: 0.005
      lr_scheduler_type: constant
      eval_strategy: steps
      eval_steps: 60
      save_steps: 60
      metric_for_best_model: eval_accuracy
      load_best_model_at_end: true
      logging_steps: 10
      r: 4
      target_modules: all-linear
      output_dir: \(folder.path("run"))

      """.write(toFile: folder.path("run.yaml"), atomically: true, encoding: .utf8)
      // For methods other than LoRA.
      try folder.text("run.yaml").replacing("r: 4\ntarget_modules: all-linear\n", with: "")
        .write(toFile: folder.path("full.yaml"), atomically: true, encoding: .utf8)
      return folder
    }

    @discardableResult
    private func train(
      _ folder: TemporaryFolder, _ overrides: [String] = [], file: String = "run.yaml"
    ) async throws -> (summary: TrainingRun.Summary, messages: [String]) {
      var run = TrainingRun(try RunConfiguration(contentsOf: folder.path(file), overrides: overrides))
      let messages = Messages()
      run.message = { messages.lines.append($0) }
      return (try await run.run(), messages.lines)
    }

    private final class Messages {
      var lines: [String] = []
    }

    private func error(_ folder: TemporaryFolder, _ overrides: [String] = []) async -> String {
      do {
        try await train(folder, overrides)
        return ""
      } catch {
        return "\(error)"
      }
    }

    @Test("a run learns labels, says how well, and its adapter is used by every command")
    func whole() async throws {
      let folder = try prepare()
      let (summary, messages) = try await train(folder)
      #expect(
        messages.contains { $0 == "labels: 2, early, late (single_label_classification)" }, "\(messages)")
      #expect(messages.contains { $0.contains("a new one starts at random (seed 42)") })
      let accuracy = try #require(summary.evaluationMetrics?["accuracy"])
      #expect(accuracy > 0.9)
      let records = try MetricsFile.records(path: folder.path("run/metrics.jsonl"))
      let measured = records.compactMap { $0["eval_accuracy"]?.doubleValue }
      #expect(measured.count == 2 && records.contains { $0["eval_f1_macro"] != nil })
      #expect(summary.outcome.bestMetric == measured.max())
      for name in ["run", "run/checkpoint-60"] {
        let labels = try ClassificationLabels(adapter: folder.url.appending(path: name))
        #expect(labels == ClassificationLabels(names: ["early", "late"], problemType: .singleLabel))
      }

      let evaluated = try Program.run(["evaluate", folder.path("run"), folder.path("val.jsonl"), "--json"])
      #expect(evaluated.code == 0, "\(evaluated.messages)")
      let report = try JSONValue(parsing: evaluated.output)
      #expect(report["accuracy"]?.doubleValue == accuracy)
      #expect(abs(try #require(report["loss"]?.doubleValue) - (summary.evaluationLoss ?? 0)) < 1e-6)
      #expect(report["f1_macro"] != nil && report["examples"] == 32)

      let classify = ["--text", "hhha", "--text", "aaah", "--json"]
      let classified = try Program.run(["classify", folder.path("run")] + classify)
      #expect(classified.code == 0, "\(classified.messages)")
      let lines = try classified.output.split(separator: "\n").map { try JSONValue(parsing: String($0)) }
      #expect(lines.map { $0["label"]?.stringValue } == ["early", "late"])
      for line in lines {
        let sum = ["early", "late"].compactMap { line["probabilities"]?[$0]?.doubleValue }.reduce(0, +)
        #expect(abs(sum - 1) < 1e-6)
      }
      let plain = try Program.run(["classify", folder.path("model"), "hhha", "--adapter", folder.path("run")])
      #expect(plain.output.hasPrefix("early 0.") || plain.output.hasPrefix("early 1."), "\(plain)")
      #expect(plain.output.hasSuffix("\thhha\n"))

      let merged = try Program.run(
        ["merge", folder.path("model"), "--adapter", folder.path("run"), "--output", folder.path("merged")])
      #expect(merged.code == 0, "\(merged.messages)")
      let again = try Program.run(["classify", folder.path("merged")] + classify)
      let others = try again.output.split(separator: "\n").map { try JSONValue(parsing: String($0)) }
      #expect(others.map { $0["label"]?.stringValue } == ["early", "late"])
      for (one, other) in zip(lines, others) {
        let (a, b) = (
          one["probabilities"]?["early"]?.doubleValue, other["probabilities"]?["early"]?.doubleValue
        )
        #expect(abs(try #require(a) - (try #require(b))) < 1e-4)
      }

      let inspected = try Program.run(["inspect", folder.path("run"), "--json"])
      let facts = try JSONValue(parsing: inspected.output)
      #expect(facts["architecture"] == "LlamaForSequenceClassification")
      #expect(facts["labels"] == ["early", "late"])
      #expect(facts["adapters"]?[0]?["targets"]?["score"]?["weight"] == [2, 32])
      #expect(
        try Program.run(["inspect", folder.path("run")]).output.contains("labels         2: early, late"))

      for model in ["run", "merged"] {
        let generated = try Program.run(["generate", folder.path(model), "--raw", "abc"])
        #expect(generated.code == 1 && generated.messages.contains("graft classify"), "\(generated)")
      }
      let writer = try Program.run(["classify", folder.path("model"), "abc"])
      #expect(writer.code == 1 && writer.messages.contains("no head for labels"), "\(writer)")
      let planned = try Program.run(["plan", folder.path("run.yaml"), "--json"])
      #expect(planned.code == 0, "\(planned.messages)")
      #expect(planned.output.contains("\(summary.trainableParameters)"))
    }

    @Test("training goes on from a classifier with its names, and merged ones are trained again")
    func fromClassifier() async throws {
      let folder = try prepare()
      try await train(
        folder, ["max_steps=4", "eval_steps=2", "save_steps=2", "peft_method=full"], file: "full.yaml")
      let again = [
        "model_name_or_path=\(folder.path("run"))", "output_dir=\(folder.path("again"))", "max_steps=2",
      ]
      let (_, messages) = try await train(
        folder, again + ["eval_strategy=no", "load_best_model_at_end=false"])
      #expect(!messages.contains { $0.contains("new one starts at random") })
      let refused = await error(
        folder, again + ["num_labels=3", "output_dir=\(folder.path("third"))"])
      #expect(
        refused.contains("`num_labels` is 3, and the model's head tells 2 labels apart (early, late)"),
        "\(refused)")
      let writes = await error(
        folder, again + ["task_type=CAUSAL_LM", "output_dir=\(folder.path("fourth"))"])
      #expect(writes.contains("gives texts labels, and `task_type` is CAUSAL_LM"), "\(writes)")
      // The data has a label that the classifier does not.
      try #"{"text": "abc", "label": "never"}"#.write(
        toFile: folder.path("train.jsonl"), atomically: true, encoding: .utf8)
      let unknown = await error(folder, again + ["output_dir=\(folder.path("fifth"))"])
      #expect(unknown.contains("`never`, which is none of the 2 labels `early`, `late`"), "\(unknown)")
    }

    @Test("numbers are learnt, and measured as such")
    func regression() async throws {
      let folder = try prepare { $0 ? "1.5" : "-0.5" }
      let (summary, messages) = try await train(
        folder, ["metric_for_best_model=mse"])
      #expect(messages.contains { $0 == "labels: 1 number (regression)" }, "\(messages)")
      #expect(try #require(summary.evaluationMetrics?["mse"]) < 0.5)
      #expect(try #require(summary.evaluationMetrics?["spearman"]) > 0.7)
      let classified = try Program.run(["classify", folder.path("run"), "hhha", "--json"])
      let value = try JSONValue(parsing: classified.output)["values"]?["LABEL_0"]?.doubleValue
      #expect(try #require(value) > 0.5)
    }

    @Test("a text can have several labels")
    func several() async throws {
      let folder = try prepare { $0 ? #"["early", "any"]"# : #"["any"]"# }
      let (_, messages) = try await train(folder)
      #expect(messages.contains { $0 == "labels: 2, any, early (multi_label_classification)" }, "\(messages)")
      let classified = try Program.run([
        "classify", folder.path("run"), "--text", "hhha", "--text", "aaah", "--json",
      ])
      let lines = try classified.output.split(separator: "\n").map { try JSONValue(parsing: String($0)) }
      #expect(lines.map { $0["labels"] } == [["any", "early"], ["any"]])
    }

    @Test("virtual tokens carry a head too")
    func promptTuning() async throws {
      let folder = try prepare()
      let (summary, _) = try await train(
        folder, ["peft_method=prompt_tuning", "num_virtual_tokens=4"], file: "full.yaml")
      let classified = try Program.run(["evaluate", folder.path("run"), folder.path("val.jsonl"), "--json"])
      #expect(
        try JSONValue(parsing: classified.output)["accuracy"]?.doubleValue
          == summary.evaluationMetrics?["accuracy"])
    }

    // MARK: Errors

    @Test("data without labels is refused before the model is read")
    func noLabels() async throws {
      let folder = try prepare()
      try #"{"text": "abc"}"#.write(toFile: folder.path("train.jsonl"), atomically: true, encoding: .utf8)
      let text = await error(folder)
      #expect(text.contains("train.jsonl") && text.contains("there is no column `label`"), "\(text)")
      try
        (Self.jsonl(Self.rows(3, seed: 1)) { $0 ? #""a""# : #""b""# } + "\n"
        + #"{"text": "a", "label": null}"#)
        .write(toFile: folder.path("train.jsonl"), atomically: true, encoding: .utf8)
      let missing = await error(folder)
      #expect(missing.contains("row 4") && missing.contains("every row needs a label"), "\(missing)")
    }

    @Test("a label of the validation data that was not learnt is refused, with its row")
    func unseen() async throws {
      let folder = try prepare()
      try #"{"text": "abc", "label": "noon"}"#.write(
        toFile: folder.path("val.jsonl"), atomically: true, encoding: .utf8)
      let text = await error(folder)
      #expect(text.contains("val.jsonl") && text.contains("`noon`, which is none of the 2 labels"), "\(text)")
    }

    @Test("a number of labels that the data does not have is refused")
    func count() async throws {
      let text = await error(try prepare(), ["num_labels=5"])
      #expect(text.contains("2 different labels (early, late), and `num_labels` is 5"), "\(text)")
    }

    @Test(
      "settings of another task are refused, with their line",
      arguments: [
        ("task_type=CAUSAL_LM", "num_labels=2", "`num_labels` has no meaning with `task_type: CAUSAL_LM`"),
        ("task_type=CAUSAL_LM", "label_column=x", "`label_column` has no meaning"),
        ("task_type=SEQ_CLS", "prompt_column=x", "`prompt_column` has no meaning with `task_type: SEQ_CLS`"),
        ("task_type=SEQ_CLS", "row_format=messages", "`row_format` has no meaning"),
        ("task_type=SEQ_CLS", "problem_type=ranking", "single_label_classification"),
        ("task_type=SEQ_CLS", "num_labels=0", "`num_labels` is 0"),
        ("task_type=SEQ_2_SEQ_LM", "num_labels=2", "SEQ_CLS"),
      ])
    func foreign(_ task: String, _ override: String, _ problem: String) throws {
      let folder = try prepare()
      let text = message {
        _ = try RunConfiguration(contentsOf: folder.path("run.yaml"), overrides: [task, override])
      }
      #expect(text.contains(problem), "\(text)")
    }
  }
}
