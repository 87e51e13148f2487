import Formats
import Foundation
import JSON
import NeuralNetworks
import Torch

// Weights that a source holds in a quantized form.

extension PretrainedSource {
  // MARK: bitsandbytes

  /// What a checkpoint quantized by bitsandbytes holds beside the codes of a weight; empty for a dense one.
  func bitsAndBytesCompanions(_ name: String) -> [String] {
    let module = String(name.dropLast("weight".count))
    let derived = ["absmax", "quant_map", "nested_absmax", "nested_quant_map"].map { "\(name).\($0)" }
    let states = BitsAndBytesConfig.QuantType.allCases.map {
      "\(name).quant_state.bitsandbytes__\($0.rawValue)"
    }
    let eightBit = ["\(module)SCB", "\(module)weight_format"]
    return (derived + states + eightBit).filter(holds)
  }

  /// The quantized weight under `name`; nil when it is dense.
  ///
  /// - Parameter shape: what the model makes it, `[out, in]`.
  /// - Throws: ``ModelError`` when a part is missing, cut short or belongs to another weight.
  func bitsAndBytesWeight(
    _ name: String, shape: [Int], dtype: DType, device: Device, computeType: DType?
  ) throws -> (any WeightStorage)? {
    guard !bitsAndBytesCompanions(name).isEmpty else { return nil }
    do {
      return try holds(String(name.dropLast("weight".count)) + "SCB")
        ? int8Weight(name, shape: shape, dtype: dtype, device: device)
        : fourBitWeight(name, shape: shape, dtype: dtype, device: device, computeType: computeType)
    } catch let error as TorchError {
      throw damaged(name, "\(error.message)")
    }
  }

  private func damaged(_ name: String, _ problem: String) -> ModelError {
    ModelError(
      "The quantized weight `\(name)` at \(url.path) is damaged: \(problem). Download the model again, or quantize it anew."
    )
  }

  private func part(_ name: String, of weight: String, _ type: DType?, device: Device = .cpu) throws -> Tensor
  {
    guard holds(name) else { throw damaged(weight, "`\(name)` is missing") }
    let tensor = try tensor(name, dtype: nil)
    guard type == nil || tensor.dtype == type else {
      throw damaged(weight, "`\(name)` holds \(tensor.dtype.torchName) where \(type!.torchName) is wanted")
    }
    return try tensor.reshaped(-1).to(device: device)
  }

  private func int8Weight(_ name: String, shape: [Int], dtype: DType, device: Device) throws -> Int8Weight {
    let module = String(name.dropLast("weight".count))
    if holds("\(module)weight_format") {
      let format = try part("\(module)weight_format", of: name, nil).integers().first
      guard format == 0 else {
        throw damaged(name, "`\(module)weight_format` is \(format ?? -1), and only rows (0) are read")
      }
    }
    guard try self.shape(name) == shape else {
      throw damaged(name, "its shape is \(try self.shape(name) ?? []), and the model makes it \(shape)")
    }
    return Int8Weight(
      try QuantizedMatrix(
        .int8, rows: shape[0], columns: shape[1], codes: part(name, of: name, .int8, device: device),
        constants: part("\(module)SCB", of: name, .float32, device: device)),
      dtype: dtype)
  }

  private func fourBitWeight(
    _ name: String, shape: [Int], dtype: DType, device: Device, computeType: DType?
  ) throws -> FourBitWeight {
    let states = BitsAndBytesConfig.QuantType.allCases.filter {
      holds("\(name).quant_state.bitsandbytes__\($0.rawValue)")
    }
    guard states.count == 1, let type = states.first else {
      throw damaged(
        name, "it needs one `\(name).quant_state.bitsandbytes__nf4` or `__fp4` and has \(states.count)")
    }
    let key = "\(name).quant_state.bitsandbytes__\(type.rawValue)"
    let bytes = try part(key, of: name, .uint8).array(of: UInt8.self)
    guard let state = try? JSONValue(parsing: Data(bytes)), state.objectValue != nil else {
      throw damaged(name, "`\(key)` is not JSON")
    }
    guard state["quant_type"]?.stringValue == type.rawValue,
      let blockSize = state["blocksize"]?.intValue,
      [32, 64, 128, 256, 512, 1024, 2048, 4096].contains(blockSize)
    else { throw damaged(name, "`\(key)` says \(state.serialized())") }
    guard let sizes = state["shape"]?.arrayValue, sizes.map({ $0.intValue }) == shape else {
      throw damaged(
        name, "`\(key)` says \(state["shape"]?.serialized() ?? "no shape"), and the model makes it \(shape)")
    }
    // The kernels know the two types' values; a map with others would be another type.
    let values = try part("\(name).quant_map", of: name, .float32).floats()
    let wanted = try QuantizedMatrix.values(of: type.encoding).floats()
    guard values.count == 16, zip(values, wanted).allSatisfy({ abs($0 - $1) <= 1e-6 }) else {
      throw damaged(name, "`\(name).quant_map` does not hold the values of \(type.rawValue)")
    }

    var nested: QuantizedMatrix.NestedConstants?
    if holds("\(name).nested_absmax") || holds("\(name).nested_quant_map") || state["nested_blocksize"] != nil
    {
      guard let size = state["nested_blocksize"]?.intValue, (1...65_536).contains(size),
        let offset = state["nested_offset"]?.doubleValue, offset.isFinite
      else { throw damaged(name, "`\(key)` lacks the nested block size or offset") }
      nested = try QuantizedMatrix.NestedConstants(
        scales: part("\(name).nested_absmax", of: name, .float32, device: device),
        table: part("\(name).nested_quant_map", of: name, .float32, device: device), offset: offset,
        blockSize: size)
    }
    // `bnb_4bit_quant_storage` may call the bytes another type.
    let codes = try storedBytes(name).to(device: device)
    return FourBitWeight(
      try QuantizedMatrix(
        type.encoding, rows: shape[0], columns: shape[1], codes: codes, blockSize: blockSize,
        constants: part("\(name).absmax", of: name, nested == nil ? .float32 : .uint8, device: device),
        nested: nested),
      dtype: dtype, computeType: computeType)
  }

  // MARK: GGUF

  /// The blocks of a GGUF tensor as they lie in the file, rows in Hugging Face's order; nil when it is stored plainly.
  ///
  /// The blocks stay mapped, except where rows have to change places.
  func packedMatrix(_ name: String) throws -> QuantizedMatrix? {
    guard let stored = try storedTensor(name), case .blocks(let type) = stored.type, stored.shape.count == 2
    else {
      return nil
    }
    guard let encoding = QuantizedMatrix.Encoding(type) else {
      throw ModelError(
        "`\(stored.name)` at \(url.path) has the type \(type), whose blocks Graft cannot compute with. Use a file of another type, "
          + "such as Q8_0 or Q4_K_M.")
    }
    let rows = stored.shape[0]
    let bytes = try stored.mappedBytes()
    let ordered = try inModelOrder(bytes.reshaped(rows, bytes.count / max(rows, 1)), name)
    return try QuantizedMatrix(
      encoding, rows: rows, columns: stored.shape[1], codes: ordered === bytes ? bytes : ordered.reshaped(-1))
  }

  /// The bits that an element of a GGUF file's matrices takes in the mean when blocks stay packed and the rest is held in `dense`: of linear
  /// layers, and of embeddings. Nil for other files.
  package func packedBits(dense: DType) throws -> (layers: Double, tables: Double)? {
    guard case .gguf = layout else { return nil }
    var (bits, elements) = ([0.0, 0.0], [0, 0])
    for name in tensorNames {
      guard let stored = try storedTensor(name), stored.shape.count == 2 else { continue }
      let role = name == "model.embed_tokens.weight" || name == "lm_head.weight" ? 1 : 0
      let isPacked = if case .blocks = stored.type { true } else { false }
      bits[role] += Double(isPacked ? 8 * stored.bytes.count : 8 * dense.byteCount * stored.elementCount)
      elements[role] += stored.elementCount
    }
    return (bits[0] / Double(max(elements[0], 1)), bits[1] / Double(max(elements[1], 1)))
  }

  /// The bytes of a tensor that lies over its file when it is held in `dtype` or, with `packed`, in its blocks: of such a one no more
  /// than what is being read has to be in memory. Nil for one that is converted, and so is all there.
  package func bytesInPlace(_ name: String, dtype: DType, packed: Bool) throws -> ByteView? {
    guard let stored = try storedTensor(name) else { return nil }
    let isMapped =
      switch stored.type {
      case .dense(let type): type == dtype
      case .blocks: packed
      case .other: false
      }
    return isMapped ? stored.bytes : nil
  }
}

extension QuantizedMatrix.Encoding {
  /// The encoding of a GGML type; nil when there is none.
  init?(_ type: GGMLType) {
    switch type {
    case .q4_0: self = .q4_0
    case .q4_1: self = .q4_1
    case .q5_0: self = .q5_0
    case .q5_1: self = .q5_1
    case .q8_0: self = .q8_0
    case .q2_K: self = .q2_K
    case .q3_K: self = .q3_K
    case .q4_K: self = .q4_K
    case .q5_K: self = .q5_K
    case .q6_K: self = .q6_K
    default: return nil
    }
  }
}
