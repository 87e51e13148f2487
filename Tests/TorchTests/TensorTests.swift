import Foundation
import Testing
import Torch

@Suite struct TensorTests {
  // MARK: Values in and out

  /// Values that every type but bool can hold.
  private let small: [Double] = [0, 1, 2, 3, 5, 8]

  @Test("elements of every type come back as they went in", arguments: DType.allCases)
  func roundTrip(_ dtype: DType) throws {
    let tensor = try Tensor(small, shape: [2, 3]).to(dtype)
    #expect(tensor.dtype == dtype && tensor.shape == [2, 3] && tensor.count == 6)
    #expect(tensor.byteCount == 6 * dtype.byteCount)
    #expect(try tensor.doubles() == (dtype == .bool ? small.map { $0 == 0 ? 0 : 1 } : small))
    let bytes = try tensor.bytes()
    #expect(bytes.count == tensor.byteCount)
    let again = try bytes.withUnsafeBytes { try Tensor(copying: $0, shape: [2, 3], dtype: dtype) }
    #expect(try again.bytes() == bytes)
    #expect(try again.to(.float64).doubles() == tensor.to(.float64).doubles())
    #expect(DType(torchName: dtype.torchName) == dtype)
    #expect(DType(torchName: "torch." + dtype.torchName) == dtype)
  }

  @Test("Swift's own types come back exactly")
  func exactValues() throws {
    #expect(try Tensor([Float.pi, -0.0, .infinity]).floats() == [.pi, -0.0, .infinity])
    #expect(try Tensor([Double.pi, .leastNonzeroMagnitude]).doubles() == [.pi, .leastNonzeroMagnitude])
    #expect(try Tensor([Int64.min, .max]).array(of: Int64.self) == [.min, .max])
    #expect(try Tensor([Int32.min, .max]).array(of: Int32.self) == [.min, .max])
    #expect(try Tensor([Int16.min, .max]).array(of: Int16.self) == [.min, .max])
    #expect(try Tensor([Int8.min, .max]).array(of: Int8.self) == [.min, .max])
    #expect(try Tensor([UInt8.min, .max]).array(of: UInt8.self) == [.min, .max])
    #expect(try Tensor([true, false]).array(of: Bool.self) == [true, false])
    #expect(try Tensor([Float.nan]).floats()[0].isNaN)
    #expect(try Tensor([1.5, 2.5]).integers() == [1, 2])
  }

  @Test("scalars and empty tensors are tensors")
  func extremes() throws {
    let scalar = try Tensor([Float(7)], shape: [])
    #expect(scalar.rank == 0 && scalar.count == 1)
    #expect(try scalar.item() == 7)
    let empty = try Tensor([Float](), shape: [0, 4])
    #expect(empty.shape == [0, 4] && empty.count == 0)
    #expect(try empty.floats().isEmpty && empty.bytes().isEmpty)
    #expect(try empty.sum().item() == 0)
    #expect(try Tensor.concatenated([empty, .ones([2, 4])]).shape == [2, 4])
  }

  @Test("views share memory, copies do not, and what is read follows the view")
  func views() throws {
    let tensor = try Tensor.range(0..<12, dtype: .float32).reshaped(3, 4)
    let part = try tensor.slice(1..<3, dimension: 1)
    #expect(part.sharesMemory(with: tensor) && !part.isContiguous && part.strides == [4, 1])
    #expect(try part.floats() == [1, 2, 5, 6, 9, 10])
    #expect(try tensor.transposed().floats() == [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11])
    #expect(try !part.contiguous().sharesMemory(with: tensor))
    #expect(try !tensor.copy().sharesMemory(with: tensor))
    try part.fillInPlace(-1)
    #expect(try tensor.floats() == [0, -1, -1, 3, 4, -1, -1, 7, 8, -1, -1, 11])
    #expect(try tensor.permuted([1, 0]).bytes() == tensor.transposed().contiguous().bytes())
    #expect(try tensor.split([1, 3], dimension: 1).map(\.shape) == [[3, 1], [3, 3]])
  }

  @Test("a tensor over Swift's memory keeps its owner until the last view goes")
  func wrapping() throws {
    final class Owner {
      let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: 16, alignment: 64)
      let gone: () -> Void
      init(gone: @escaping () -> Void) { self.gone = gone }
      deinit {
        memory.deallocate()
        gone()
      }
    }
    var isGone = false
    var view: Tensor?
    do {
      let owner = Owner { isGone = true }
      owner.memory.bindMemory(to: Float.self).update(repeating: 3)
      let whole = try Tensor(wrapping: .init(owner.memory), shape: [2, 2], dtype: .float32, owner: owner)
      #expect(try whole.floats() == [3, 3, 3, 3])
      view = try whole.slice(1..<2)
      #expect(throws: TorchError.self) {
        try Tensor(wrapping: .init(owner.memory), shape: [5], dtype: .float32, owner: owner)
      }
    }
    #expect(!isGone)
    #expect(try view?.floats() == [3, 3])
    view = nil
    #expect(isGone)
  }

  // MARK: Operations

  @Test("arithmetic broadcasts, reduces and selects as the formulas say")
  func operations() throws {
    let a = try Tensor([Float]([1, 2, 3, 4, 5, 6]), shape: [2, 3])
    let b = try Tensor([Float]([10, 20, 30]))
    #expect(try (a + b).floats() == [11, 22, 33, 14, 25, 36])
    #expect(try ((a - b) * 2 / 4).floats() == [-4.5, -9, -13.5, -3, -7.5, -12])
    #expect(try (-a).squared().floats() == [1, 4, 9, 16, 25, 36])
    #expect(try a.matmul(b.reshaped(3, 1)).floats() == [140, 320])
    #expect(try a.linear(.ones([1, 3]), bias: Tensor([Float(0.5)])).floats() == [6.5, 15.5])
    #expect(try a.sum().item() == 21 && a.mean().item() == 3.5 && a.max().item() == 6 && a.min().item() == 1)
    #expect(try a.sum(0).floats() == [5, 7, 9])
    #expect(try a.sum(1, keepingDimension: true).shape == [2, 1])
    #expect(try a.argmax(1).integers() == [2, 2])
    #expect(try abs(a.norm().item() - 91.0.squareRoot()) < 1e-6)
    #expect(try a.greater(3).array(of: Bool.self) == [false, false, false, true, true, true])
    #expect(try a.filled(where: a.greater(3), with: 0).floats() == [1, 2, 3, 0, 0, 0])
    #expect(try a.clamped(2...5).floats() == [2, 2, 3, 4, 5, 5])
    #expect(try a.selecting(Tensor([Int64(1), 1, 0])).floats() == [4, 5, 6, 4, 5, 6, 1, 2, 3])
    #expect(try a.gathering(Tensor([Int64(2), 0], shape: [2, 1]), dimension: 1).floats() == [3, 4])
    #expect(try a.embedding(Tensor([Int64(1)], shape: [1, 1])).shape == [1, 1, 3])
    let (values, indices) = try a.topK(2)
    #expect(try values.floats() == [3, 2, 6, 5] && indices.integers() == [2, 1, 2, 1])
    #expect(try a.sorted(descending: true).values.floats() == [3, 2, 1, 6, 5, 4])
    #expect(try a.cumulativeSum().floats() == [1, 3, 6, 4, 9, 15])
    #expect(try abs(a.softmax().sum().item() - 2) < 1e-6)
    #expect(try a.repeatInterleaved(2, dimension: 0).shape == [4, 3])
    #expect(try Tensor.stacked([b, b], dimension: 1).floats() == [10, 10, 20, 20, 30, 30])
    let (u, s, vt) = try a.singularValueDecomposition()
    let rebuilt = try (u * s).matmul(vt)
    #expect(try (rebuilt - a).absolute().max().item() < 1e-5)
    let logits = try Tensor([Float]([0, 0, 0, 0]), shape: [2, 2])
    #expect(try abs(logits.crossEntropySum(Tensor([Int64(1), -100])).item() - log(2)) < 1e-6)
  }

  // MARK: Errors

  /// Every way in which the engine can refuse is an error that names the operation and the operands.
  private func expectTorchError(
    _ parts: String..., location: SourceLocation = #_sourceLocation, _ body: () throws -> Void
  ) {
    do {
      try body()
      Issue.record("nothing was thrown", sourceLocation: location)
    } catch let error as TorchError {
      for part in parts {
        #expect(error.description.contains(part), "\(error) lacks \(part)", sourceLocation: location)
      }
      #expect(
        !error.message.isEmpty && !error.message.contains("Exception raised from"), sourceLocation: location)
    } catch {
      Issue.record("\(type(of: error)): \(error)", sourceLocation: location)
    }
  }

  @Test("what does not fit throws, with the operation and the shapes")
  func errors() throws {
    let a = try Tensor.ones([2, 3])
    let b = try Tensor.ones([4, 5])
    expectTorchError("add", "[2, 3] float32 cpu", "[4, 5] float32 cpu") { _ = try a + b }
    expectTorchError("matmul", "[2, 3]", "[4, 5]") { _ = try a.matmul(b) }
    expectTorchError("linear", "[2, 3]", "[4, 5]") { _ = try a.linear(b) }
    expectTorchError("reshape to [7]", "[2, 3]") { _ = try a.reshaped(7) }
    expectTorchError("reshape to [-1, -1]") { _ = try a.reshaped(-1, -1) }
    expectTorchError("expand") { _ = try a.expanded([2, 7]) }
    expectTorchError("transpose") { _ = try a.transposed(0, 2) }
    expectTorchError("permute") { _ = try a.permuted([0, 0]) }
    expectTorchError("slice 1..<9 of dimension 0", "[2, 3]") { _ = try a.slice(1..<9) }
    expectTorchError("slice") { _ = try a.slice(-5..<1) }
    expectTorchError("slice") { _ = try a.split([2, 2], dimension: 1) }
    expectTorchError("concatenate", "[2, 3]", "[4, 5]") { _ = try Tensor.concatenated([a, b]) }
    expectTorchError("concatenate") { _ = try Tensor.concatenated([]) }
    expectTorchError("stack") { _ = try Tensor.stacked([a, b]) }
    expectTorchError("index_select") { _ = try a.selecting(Tensor([Int64(2)])) }
    expectTorchError("index_select") { _ = try a.selecting(Tensor([Int64(-1)])) }
    expectTorchError("gather") { _ = try a.gathering(Tensor([Int64(9)], shape: [1, 1]), dimension: 1) }
    expectTorchError("embedding", "[2, 3]") { _ = try a.embedding(Tensor([Int64(2)])) }
    expectTorchError("embedding") { _ = try a.embedding(Tensor([Int64(-1)])) }
    expectTorchError("embedding") { _ = try a.embedding(Tensor([Float(0)])) }
    expectTorchError("topk") { _ = try a.topK(4) }
    expectTorchError("argmax") { _ = try Tensor.zeros([0]).argmax() }
    expectTorchError("max") { _ = try Tensor.zeros([0, 3]).max(0) }
    expectTorchError("sum") { _ = try a.sum(2) }
    expectTorchError("multinomial") { _ = try Tensor([Float(-1), 2]).multinomial(1) }
    expectTorchError("cross_entropy") { _ = try a.crossEntropySum(Tensor([Int64(0), 3])) }
    expectTorchError("svd") { _ = try Tensor.ones([3]).singularValueDecomposition() }
    expectTorchError("dropout") { _ = try a.dropout(1.5) }
    expectTorchError("copy") { try a.copyInPlace(b) }
    expectTorchError("copy") { try a.slice(0..<1).copyInPlace(a) }
    expectTorchError("add") { try a.addInPlace(b) }
    expectTorchError("index_copy") { try a.replaceInPlace(Tensor([Int64(7)]), with: .ones([1, 3])) }
    expectTorchError("item", "[2, 3]", "6 elements") { _ = try a.item() }
    expectTorchError("requires_grad") { try Tensor([Int64(1)]).setRequiresGradient(true) }
    expectTorchError("backward") { try a.backward() }
    expectTorchError("gradient") { try a.setGradient(b) }
    expectTorchError("tensor[3]") { _ = try Tensor([Float(1)], shape: [3]) }
    expectTorchError("tensor[-1]") { _ = try Tensor([Float(1)], shape: [-1]) }
    expectTorchError("read") { _ = try Tensor.empty([2], device: .meta).floats() }
  }

  @Test("the fused operations refuse what does not fit")
  func fusedErrors() throws {
    let x = try Tensor.ones([5, 2, 16])
    let offsets = try Tensor([Int32(0), 5])
    func attention(_ query: Tensor, _ key: Tensor, _ value: Tensor, _ offsets: Tensor, window: Int = 0) throws
    {
      _ = try Tensor.raggedAttention(
        query, key, value, offsets: offsets, scale: 1, causal: true, window: window)
    }
    try attention(x, x, x, offsets)
    expectTorchError("attention") { try attention(x, .ones([4, 2, 16]), .ones([4, 2, 16]), offsets) }
    expectTorchError("attention") { try attention(.ones([5, 3, 16]), x, x, offsets) }
    expectTorchError("attention") { try attention(x, .ones([5, 2, 8]), x, offsets) }
    expectTorchError("attention") { try attention(x, x, x, Tensor([Int32(0), 6])) }
    expectTorchError("attention") { try attention(x, x, x, Tensor([Int32(0), 4, 2, 5])) }
    expectTorchError("attention") { try attention(x, x, x, Tensor([Int32(-1), 5])) }
    expectTorchError("attention") { try attention(x, x, x, Tensor([Int64(0), 5])) }
    expectTorchError("attention") { try attention(x, x, x, Tensor([Int32]())) }
    expectTorchError("attention") { try attention(x, x, x, offsets, window: -1) }

    let cache = try Tensor.ones([1, 8, 2, 16])
    func cached(_ query: Tensor, _ keys: Tensor, _ lengths: [Int32]) throws {
      _ = try Tensor.cachedAttention(
        query, keys: keys, values: keys, offsets: offsets, lengths: Tensor(lengths), scale: 1, causal: true)
    }
    try cached(x, cache, [8])
    expectTorchError("cached attention") { try cached(x, cache, [9]) }
    expectTorchError("cached attention") { try cached(x, cache, [4]) }
    expectTorchError("cached attention") { try cached(x, cache, [5, 5]) }
    expectTorchError("cached attention") { try cached(x, .ones([1, 8, 2, 8]), [8]) }

    let hidden = try Tensor.ones([3, 16])
    let head = try Tensor.ones([7, 16])
    for label: Int64 in [-1, 7, -100, .max, .min] {
      expectTorchError("cross-entropy") {
        _ = try hidden.linearCrossEntropy(weight: head, labels: Tensor([0, 1, label]))
      }
      expectTorchError("cross-entropy") {
        _ = try hidden.linearCrossEntropyPerToken(weight: head, labels: Tensor([0, 1, label]))
      }
    }
    expectTorchError("cross-entropy") {
      _ = try hidden.linearCrossEntropy(weight: head, labels: Tensor([Int64(0)]))
    }
    expectTorchError("cross-entropy") {
      _ = try hidden.linearCrossEntropy(weight: .ones([7, 8]), labels: Tensor([Int64(0), 1, 2]))
    }
    expectTorchError("cross-entropy") {
      _ = try hidden.linearCrossEntropy(weight: head, labels: Tensor([Float(0), 1, 2]))
    }
    expectTorchError("rms_norm") { _ = try hidden.rmsNorm(weight: .ones([8]), epsilon: 1e-6) }
    expectTorchError("swiglu") { _ = try Tensor.swiGLU(hidden, head) }
    expectTorchError("rotary") {
      _ = try hidden.rotated(cosines: .ones([3, 8]), sines: .ones([2, 8]), headSize: 8, heads: 2)
    }
    expectTorchError("rotary") {
      _ = try hidden.rotated(cosines: .ones([3, 8]), sines: .ones([3, 8]), headSize: 8, heads: 3)
    }
    expectTorchError("LoRA") {
      _ = try hidden.loraLinear(
        weights: [head], bias: nil, pairs: [(a: .ones([2, 8]), b: .ones([7, 2]), scale: 1, firstOutput: 0)])
    }
    expectTorchError("LoRA") {
      _ = try hidden.loraLinear(
        weights: [head], bias: nil, pairs: [(a: .ones([2, 16]), b: .ones([8, 2]), scale: 1, firstOutput: 0)])
    }
  }

  @Test("sizes beyond memory throw")
  func memory() throws {
    expectTorchError("full") { _ = try Tensor.zeros([1 << 50]) }
    expectTorchError("empty") { _ = try Tensor.empty([1 << 40, 1 << 40]) }
    expectTorchError("empty") { _ = try Tensor.empty([-1]) }
    expectTorchError("uniform") { _ = try Tensor.uniform([1 << 50]) }
  }

  @Test("devices are parsed, and one that is not there throws")
  func devices() throws {
    #expect(try Device(parsing: "cpu") == .cpu)
    #expect(try Device(parsing: "cuda") == .cuda)
    #expect(try Device(parsing: "cuda:1") == Device(.cuda, index: 1))
    for text in ["", "gpu", "cuda:", "cuda:-1", "cuda:x", "cuda:1:2", "CPU", ":"] {
      expectTorchError("`\(text)`", "cpu, cuda") { _ = try Device(parsing: text) }
    }
    try Engine.prepare(.cpu)
    guard (try? Engine.prepare(.cuda)) == nil else { return }
    expectTorchError("cuda") { try Engine.prepare(.cuda) }
    expectTorchError("full") { _ = try Tensor.zeros([1], device: .cuda) }
    expectTorchError("convert") { _ = try Tensor.zeros([1]).to(device: .cuda) }
  }

  @Test("the loaded engine is the one that was compiled against")
  func engine() throws {
    #expect(Engine.compiledVersion.hasPrefix(Engine.loadedVersion) && !Engine.loadedVersion.isEmpty)
    #expect(Engine.buildConfiguration.contains("PyTorch"))
    #expect(Engine.threadCount >= 1)
  }
}
