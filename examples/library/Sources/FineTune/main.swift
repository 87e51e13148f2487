// LoRA fine-tuning from a Swift program: what PEFT's quick tour does in Python, in as many lines.
// README.md shows both side by side and says how to run this.

import Foundation
import Graft

guard CommandLine.arguments.count == 4 else {
  FileHandle.standardError.write(Data("usage: FineTune MODEL TRAIN.jsonl OUTPUT_DIR\n".utf8))
  exit(64)
}
let (modelPath, dataPath, outputDir) = (
  CommandLine.arguments[1], CommandLine.arguments[2], CommandLine.arguments[3]
)

// Load a base, and put LoRA on it.
let baseModel = try AutoModelForCausalLM.fromPretrained(modelPath)
let tokenizer = try AutoTokenizer.fromPretrained(modelPath)
let peftConfig = LoRAConfig(
  r: 8, loraAlpha: 16, loraDropout: 0.05, targetModules: ["q_proj", "k_proj", "v_proj", "o_proj"])
let model = try PEFTModel(baseModel, peftConfig)
model.printTrainableParameters()

// Train.
let arguments = TrainingArguments(
  outputDir: outputDir, maxSteps: 60, perDeviceTrainBatchSize: 8, learningRate: 1e-3, saveStrategy: .no,
  loggingSteps: 10)
let trainer = try Trainer(
  model: model, arguments: arguments,
  trainDataset: await ExampleList(contentsOf: dataPath, tokenizer: tokenizer, maxLength: 256))
trainer.log = try RunLog(arguments)
try trainer.train()

// Save the adapter alone; load it together with the base that it names.
try model.savePretrained(outputDir)
let tuned = try AutoPEFTModelForCausalLM.fromPretrained(outputDir)

// Answer.
let prompt = try tokenizer.applyChatTemplate([
  .system("Turn the request into a building command in JSON."),
  .user("please switch the fan off in office 3 at half past six in the evening"),
])
let outputs = try tuned.generate([prompt], maxNewTokens: 48)
print(tokenizer.batchDecode([Array(outputs[0].dropFirst(prompt.count))])[0])
