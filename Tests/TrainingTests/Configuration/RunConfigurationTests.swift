import Adapters
import Foundation
import JSON
import Models
import Testing
import Training

@Suite("Run configuration")
struct RunConfigurationTests {
  static let minimal = "model_name_or_path: base\ntrain_file: train.json\n"

  private func configuration(_ lines: String, overrides: [String] = []) throws -> RunConfiguration {
    try RunConfiguration(yaml: Self.minimal + lines, name: "run.yaml", overrides: overrides)
  }

  /// The message of the error that reading a text gives.
  private func message(_ yaml: String, overrides: [String] = []) -> String {
    do {
      _ = try RunConfiguration(yaml: yaml, name: "run.yaml", overrides: overrides)
      return "no error"
    } catch {
      return "\(error)"
    }
  }

  @Test("keys of all groups are read from one flat file")
  func flatFile() throws {
    let run = try configuration(
      """
      dtype: bf16
      validation_file: [a.json, b.json]
      peft_method: lora
      r: 16
      lora_alpha: 32
      target_modules: [q_proj, v_proj]
      rank_pattern: {down_proj: 4}
      learning_rate: 1e-4
      num_train_epochs: 2
      eval_strategy: steps
      eval_steps: 0.1
      resume_from_checkpoint: yes
      """)
    #expect(run.model.dtype == .bfloat16)
    #expect(run.data.trainFile == ["train.json"])
    #expect(run.data.validationFile == ["a.json", "b.json"])
    #expect(run.adapter["r"] == 16)
    #expect(run.adapter["lora_alpha"]?.doubleValue == 32)
    #expect(run.adapter["target_modules"] == ["q_proj", "v_proj"])
    #expect(run.adapter["rank_pattern"] == ["down_proj": 4])
    #expect(run.adapter["lora_dropout"]?.doubleValue == 0)
    #expect(run.adapter["peft_type"] == "LORA")
    #expect(run.training.learningRate == 1e-4)
    #expect(run.training.numTrainEpochs == 2)
    #expect(run.training.evalSteps == .fraction(0.1))
    #expect(run.training.resumeFromCheckpoint == .latest)
  }

  @Test(
    "numbers read as YAML 1.1 programs do not: 1e-4 is a number",
    arguments: [
      ("1e-4", 1e-4), ("1E-4", 1e-4), ("2.e-5", 2e-5), (".5", 0.5), ("\"3e-4\"", 3e-4), ("1_000", 1000),
    ])
  func numbers(text: String, value: Double) throws {
    #expect(try configuration("learning_rate: \(text)").training.learningRate == value)
  }

  @Test("yes, no, on and off are booleans where one belongs, and words elsewhere")
  func booleans() throws {
    let run = try configuration(
      "packing: yes\nbf16: on\nlogging_first_step: NO\neval_strategy: no\nuse_rslora: yes\nprompt_column: on")
    #expect(run.training.packing && run.training.bf16 && !run.training.loggingFirstStep)
    #expect(run.training.evalStrategy == .no)
    #expect(run.adapter["use_rslora"] == true)
    #expect(run.data.promptColumn == "on")
    #expect(try configuration("eval_strategy: false").training.evalStrategy == .no)
  }

  static let errors: [(String, String)] = [
    (
      "lerning_rate: 1", "run.yaml, line 3: `lerning_rate` is not a configuration key; write `learning_rate`."
    ),
    ("\n# note\nlr: 1e-4", "run.yaml, line 5: `lr` is not a configuration key; write `learning_rate`."),
    ("epochs: 3", "run.yaml, line 3: `epochs` is not a configuration key; write `num_train_epochs`."),
    ("lora_r: 3", "run.yaml, line 3: `lora_r` is not a configuration key; write `r`."),
    (
      "evaluation_strategy: no",
      "run.yaml, line 3: `evaluation_strategy` is not a configuration key; write `eval_strategy`."
    ),
    (
      "Learning-Rate: 1",
      "run.yaml, line 3: `Learning-Rate` is not a configuration key; write `learning_rate`."
    ),
    (
      "group_by_length: true",
      "run.yaml, line 3: `group_by_length` is not a configuration key; write `train_sampling_strategy: group_by_length`."
    ),
    (
      "zzz: 1",
      "run.yaml, line 3: `zzz` is not a configuration key; remove it, or see docs/configuration.md for the keys there are."
    ),
    (
      "learning_rate: fast",
      "run.yaml, line 3: `learning_rate` is `fast`, not a number; write a number such as 0.0001 or 1e-4."
    ),
    (
      "learning_rate:",
      "run.yaml, line 3: `learning_rate` has no value; write a number such as 0.0001 or 1e-4."
    ),
    (
      "learning_rate: [1, 2]",
      "run.yaml, line 3: `learning_rate` is a list, not a number; write a number such as 0.0001 or 1e-4."
    ),
    ("max_steps: 1.5", "run.yaml, line 3: `max_steps` is `1.5`, not a whole number; write a whole number."),
    (
      "max_length: None",
      "run.yaml, line 3: `max_length` is `None`, not a whole number; YAML writes Python's None as `null`; write a whole number."
    ),
    (
      "packing: maybe",
      "run.yaml, line 3: `packing` is `maybe`, not `true` or `false`; write `true` or `false`."
    ),
    (
      "dtype: int4",
      "run.yaml, line 3: `dtype` is `int4`, not one of `auto`, `float32`, `bfloat16`; write one of them."
    ),
    (
      "eval_strategy: step",
      "run.yaml, line 3: `eval_strategy` is `step`, not one of `no`, `steps`, `epoch`; write `steps`."
    ),
    ("r: large", "run.yaml, line 3: `r` is `large`, not of type integer; write integer."),
    (
      "rank_pattern: {q_proj: 0}",
      "run.yaml, line 3: `rank_pattern` is {\"q_proj\": 0}; write whole ranks from 1 to 65536."
    ),
    (
      "lora_dropout: 1", "run.yaml, line 3: `lora_dropout` is 1; write a probability from 0 to below 1."
    ),
    ("r: 0", "run.yaml, line 3: `r` is 0; write a whole number from 1 to 65536."),
    (
      "bias: some",
      "run.yaml, line 3: `bias` is `some`, not of type `none`, `all`, `lora_only`; write `none`, `all`, `lora_only`."
    ),
    ("peft_method: lara", "run.yaml, line 3: `lara` is not an adapter method; write `lora`."),
    (
      "max_steps: -4",
      "run.yaml, line 3: `max_steps` is -4; write a number above 0, or -1 to train for `num_train_epochs`."
    ),
    (
      "r: 8\ntorch_compile: true",
      "run.yaml, line 4: `torch_compile` does not apply to Graft; remove it: Graft's own kernels are always fused and nothing is compiled at run time."
    ),
    ("r: 4\nr: 8", "run.yaml, line 4: `r` is set more than once (first on line 3); keep one of the two."),
    (
      "? [a, b]\n: 1",
      "run.yaml, line 3: a key is not a word; write keys as plain words: `learning_rate: 1e-4`."
    ),
    ("<<: {r: 1}", "run.yaml, line 3: the merge key `<<` is not supported; write the keys out."),
    (
      "bf16: true\ndtype: float32",
      "run.yaml, line 3: `bf16: true` contradicts `dtype: float32`; remove one of the two."
    ),
    ("device: gpu", "run.yaml, line 3: `device` is `gpu`; write `auto`, `cpu`, `cuda`, `cuda:0` or `mps`."),
    (
      "lr_scheduler_kwargs: {power: 2}",
      "run.yaml, line 3: `power` in `lr_scheduler_kwargs` of `lr_scheduler_type: linear` is not an option of the schedule; "
        + "remove `lr_scheduler_kwargs`, `linear` has no options."
    ),
    (
      "eval_strategy: epoch",
      "run.yaml, line 3: `eval_strategy` asks for evaluation, but there is no validation data; name a `validation_file`."
    ),
    (
      "report_to: wandb",
      "run.yaml, line 3: `report_to` is `wandb`, not one of `all`, `none`, `jsonl`, `tensorboard`, `plot`; write some of them; other trackers can read the TensorBoard files."
    ),
    (
      "convert_to_plain_lora: true",
      "run.yaml, line 3: `convert_to_plain_lora` is for adapters whose start changed the base, and this one works on the untouched base as it is; remove it, or choose `init_lora_weights` pissa, olora or loftq."
    ),
    (
      "path_initial_model_for_weight_conversion: first",
      "run.yaml, line 3: `path_initial_model_for_weight_conversion` is not a configuration key; write `convert_to_plain_lora: true`; the start is known."
    ),
    (
      "replace_lora_weights_loftq: true",
      "run.yaml, line 3: `replace_lora_weights_loftq` makes up for quantizing, and the base is not quantized; write `load_in_4bit: true`, or `init_lora_weights: loftq`, which quantizes by itself."
    ),
    (
      "replace_lora_weights_loftq: true\nload_in_4bit: true\ninit_lora_weights: pissa",
      "run.yaml, line 3: `replace_lora_weights_loftq` starts a plain LoRA; remove it, or write `peft_method: lora` with `init_lora_weights: true`."
    ),
    (
      "loftq_config: {loftq_bits: 2}\ninit_lora_weights: loftq",
      "run.yaml: `loftq_bits` is 2; write 4 (NF4) or 8 (int8), which PEFT has too."
    ),
    (
      "target_parameters: [experts.weight]",
      "run.yaml, line 3: `target_parameters` does not apply to Graft; remove it: it reaches matrices that belong to no linear layer, such as the experts of a mixture, and Graft's families have none; `target_modules` reaches all that they have."
    ),
  ]

  @Test("a wrong line gives one paragraph with line and remedy", arguments: errors.indices)
  func errorTexts(index: Int) {
    let (line, expected) = Self.errors[index]
    #expect(message(Self.minimal + line) == expected)
  }

  @Test("the starts of LoRA that other keys belong to are accepted with them")
  func starts() throws {
    for start in ["pissa", "pissa_niter_4", "olora", "loftq"] {
      _ = try configuration("convert_to_plain_lora: true\ninit_lora_weights: \(start)")
    }
    let run = try configuration("init_lora_weights: loftq\nloftq_config: {loftq_bits: 8, loftq_iter: 3}")
    let adapter = try #require(run.adapterConfiguration() as? LoRAConfig)
    #expect(adapter.loftQConfig == LoftQConfig(bits: .eight, iterations: 3))
    _ = try configuration("replace_lora_weights_loftq: true\nload_in_8bit: true")
    let bytes = try configuration("int8_matmul: true\nload_in_8bit: true").model.quantization
    #expect(bytes == .bitsAndBytes(BitsAndBytesConfig(.int8, multipliesBytes: true)))
    #expect(message(Self.minimal + "int8_matmul: true").contains("load_in_8bit: true"))
  }

  @Test("settings that ask for nothing may stay in a file of another program")
  func harmlessKeys() throws {
    _ = try configuration("torch_compile: false\npush_to_hub: no\ndeepspeed: null\nfp16: false")
  }

  @Test(
    "files that are no configuration say so",
    arguments: [
      ("", "run.yaml: the configuration is empty"),
      ("# only a note\n", "run.yaml: the configuration is empty"),
      ("---\n...\n", "run.yaml: the configuration is empty"),
      ("- a\n- b\n", "run.yaml, line 1: the configuration holds a list"),
      ("hello", "run.yaml, line 1: the configuration holds `hello`"),
      ("a: [1, 2\nb: 3", "run.yaml, line 2: the YAML cannot be read"),
      ("a: 1\n\tb: 2", "indent with spaces"),
      ("a: 1\n---\nb: 2", "run.yaml, line 2: the YAML cannot be read"),
      ("a: *b", "run.yaml, line 1: the YAML cannot be read"), ("a: \u{0}", "U+0"),
      ("a: 'x", "the YAML cannot be read"),
      ("r: 8", "`model_name_or_path` is missing"), ("model_name_or_path: m", "`train_file` is missing"),
    ])
  func noConfiguration(yaml: String, fragment: String) {
    let text = message(yaml)
    #expect(text.contains(fragment), "\(text)")
    #expect(!text.contains("\n"))
  }

  @Test("alias bombs and deep nesting are refused in no time")
  func bombs() {
    var laughs = "a: &a [x,x,x,x,x,x,x,x,x]\n"
    for (previous, next) in zip("abcdefghij", "bcdefghijk") {
      laughs +=
        "\(next): &\(next) [" + Array(repeating: "*\(previous)", count: 9).joined(separator: ",") + "]\n"
    }
    #expect(message(laughs).contains("aliases"))
    // Few uses, each of a large value: only the expansion shows it.
    var large = "a: &a [" + Array(repeating: "x", count: 5000).joined(separator: ",") + "]\n"
    for name in "bcdefg" { large += "\(name): *a\n" }
    #expect(message(large).contains("more than 20000 values"))
    let nested = String(repeating: "[", count: 100) + String(repeating: "]", count: 100)
    #expect(message("a: " + nested).contains("nested more than 32 levels"))
    #expect(message("a: " + String(repeating: "[", count: 50_000)).contains("nested more than 32 levels"))
    #expect(message("a: " + String(repeating: "x", count: 2 << 20)).contains("give `graft train` the YAML"))
  }

  @Test("an anchor may be used")
  func anchors() throws {
    let run = try configuration("eval_strategy: &when steps\nsave_strategy: *when\nvalidation_file: v.json")
    #expect(run.training.saveStrategy == .steps && run.training.evalStrategy == .steps)
  }

  @Test("overrides win over the file, and set entries of mappings")
  func overrides() throws {
    let run = try configuration(
      "learning_rate: 1\nrank_pattern: {q_proj: 2, k_proj: 3}",
      overrides: [
        "learning_rate=3e-4", "rank_pattern.q_proj=4", "rank_pattern.layers.0.v_proj=5",
        "target_modules=[q_proj]",
        "lr_scheduler_type=cosine", "lr_scheduler_kwargs.num_cycles=2", "system_prompt=a = b",
      ])
    #expect(run.training.learningRate == 3e-4)
    #expect(run.adapter["rank_pattern"] == ["k_proj": 3, "q_proj": 4, "layers.0.v_proj": 5])
    #expect(run.adapter["target_modules"] == ["q_proj"])
    #expect(run.training.lrSchedulerKwargs == ["num_cycles": 2])
    #expect(run.data.systemPrompt == "a = b")
  }

  @Test("errors in overrides quote them")
  func overrideErrors() {
    let file = Self.minimal + "learning_rate: 1\n"
    #expect(
      message(file, overrides: ["lr=3"])
        == "--set lr=3: `lr` is not a configuration key; write `learning_rate`.")
    #expect(
      message(file, overrides: ["learning_rate=-1"]).hasPrefix(
        "--set learning_rate=-1: `learning_rate` is -1.0;"))
    #expect(message(file, overrides: ["r"]).contains("write `--set learning_rate=1e-4`"))
    #expect(message(file, overrides: ["=3"]).contains("no `=` after a key"))
    #expect(message(file, overrides: ["learning_rate.x=3"]).contains("has no entry `x`"))
    #expect(message(file, overrides: ["r=[1"]).hasPrefix("--set r=[1: the YAML cannot be read"))
  }

  @Test("the resolved configuration reads back as it was")
  func yamlRoundTrip() throws {
    let run = try configuration(
      #"""
      system_prompt: "No: \"quotes\" #, and\nlines, and 中文"
      prompt_column: "yes"
      response_column: "1e5"
      text_column: null
      validation_file: v.json
      learning_rate: 1e-5
      adam_epsilon: 1e-8
      target_modules: '.*\.(q|v)_proj'
      alpha_pattern: {"model.layers.0.q_proj": 3.5}
      lr_scheduler_type: cosine_with_min_lr
      lr_scheduler_kwargs: {min_lr: 1e-6}
      """#)
    let text = run.yaml()
    #expect(try RunConfiguration(yaml: text, name: "saved.yaml") == run)
    #expect(text.contains("learning_rate: 1.0e-05\n"))
    #expect(text.contains("# Optimizer and schedule\n"))
  }

  @Test("a method added to the catalogue brings its own keys and checks")
  func otherMethods() throws {
    let method = AdapterMethod(
      peftType: "SCALES", summary: "Scales.",
      options: [
        .init("feedforward_modules", .optional(.list(.string)), default: nil, "Layers scaled at their input.")
      ]
    ) { fields in
      guard fields.values["feedforward_modules"] != ["bad"] else {
        throw fields.invalid("feedforward_modules", remedy: "choose others")
      }
      return LoRAConfig()
    }
    func read(_ lines: String) throws -> RunConfiguration {
      try RunConfiguration(
        yaml: Self.minimal + lines, name: "run.yaml", methods: AdapterMethod.catalogue + [method])
    }
    let run = try read("peft_method: scales\nfeedforward_modules: down_proj")
    #expect(run.adapter == ["peft_type": "SCALES", "feedforward_modules": ["down_proj"]])
    let foreign = #expect(throws: ConfigurationError.self) { _ = try read("peft_method: scales\nr: 8") }
    #expect(foreign?.problem == "`r` is a key of `peft_method: lora`, but the method is `scales`")
    let bad = #expect(throws: ConfigurationError.self) {
      _ = try read("peft_method: scales\nfeedforward_modules: bad")
    }
    #expect(bad?.location == .file("run.yaml", line: 4))
  }

  @Test("configuration files that cannot be read are errors")
  func unreadableFiles() throws {
    let folder = try TemporaryFolder()
    func message(_ name: String, _ data: Data?) -> String {
      if let data { #expect(FileManager.default.createFile(atPath: folder.path(name), contents: data)) }
      do {
        _ = try RunConfiguration(contentsOf: folder.path(name))
        return "no error"
      } catch {
        return "\(error)"
      }
    }
    #expect(message("missing.yaml", nil).contains("does not exist"))
    #expect(message("", nil).contains("is a folder"))
    #expect(
      message("latin.yaml", Data("a: 1\nb: caf".utf8) + [0xE9]).contains("line 2: the file is not UTF-8"))
    #expect(message("big.yaml", Data(count: 3 << 20)).contains("more than 1048576"))
    #expect(message("good.yaml", Data(("\u{FEFF}" + Self.minimal).utf8)) == "no error")
  }
}
