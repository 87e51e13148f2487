import Foundation
import Testing
import Torch

@Suite struct AutogradTests {
  private func leaf(_ values: [Float], shape: [Int]? = nil) throws -> Tensor {
    let tensor = try Tensor(values, shape: shape)
    try tensor.setRequiresGradient(true)
    return tensor
  }

  private struct Refusal: Error, CustomStringConvertible {
    let description = "the closure refused"
  }

  private func expectRefusal(location: SourceLocation = #_sourceLocation, _ body: () throws -> Void) {
    do {
      try body()
      Issue.record("nothing was thrown", sourceLocation: location)
    } catch {
      #expect("\(error)".contains("the closure refused"), "\(error)", sourceLocation: location)
    }
  }

  @Test("gradients follow the chain rule and accumulate")
  func gradients() throws {
    let x = try leaf([1, 2, 3])
    let y = try (x.squared() * 3).sum()
    try y.backward()
    #expect(try #require(x.gradient).floats() == [6, 12, 18])
    try (x * 2).sum().backward()
    #expect(try #require(x.gradient).floats() == [8, 14, 20])
    try x.setGradient(nil)
    #expect(x.gradient == nil)
    try (x * 2).backward(Tensor([Float(1), 10, 100]))
    #expect(try #require(x.gradient).floats() == [2, 20, 200])
    #expect(try !x.detached().requiresGradient)
  }

  @Test("nothing is recorded inside withoutGradient, also when it throws")
  func withoutRecording() throws {
    let x = try leaf([1])
    #expect(gradientIsRecorded)
    #expect(try withoutGradient { try (x * 2).requiresGradient } == false)
    #expect(throws: Refusal.self) { try withoutGradient { throw Refusal() } }
    #expect(gradientIsRecorded)
    #expect(try (x * 2).requiresGradient)
  }

  // MARK: Checkpoints

  @Test("a checkpoint gives the values and gradients of the plain computation, nested too")
  func checkpoint() throws {
    let x = try leaf([0.5, -1, 2, 3], shape: [2, 2])
    let w = try leaf([1, 2, 3, 4], shape: [2, 2])
    func layer(_ input: Tensor) throws -> Tensor { try input.matmul(w).silu() + input }
    func run(_ body: (Tensor) throws -> Tensor) throws -> [[Float]] {
      let output = try body(x)
      #expect(output.requiresGradient)
      try output.squared().sum().backward()
      defer {
        try? x.setGradient(nil)
        try? w.setGradient(nil)
      }
      return [
        try output.floats(), try #require(x.gradient).floats(), try #require(w.gradient).floats(),
      ]
    }
    let plain = try run { try layer(layer(layer($0))) }
    let each = try run { input in
      try (0..<3).reduce(input) { hidden, _ in try checkpointed([hidden]) { try layer($0[0]) } }
    }
    let whole = try run { try checkpointed([$0]) { try layer(layer(layer($0[0]))) } }
    let nested = try run {
      try checkpointed([$0]) { outer in
        try layer(checkpointed([layer(outer[0])]) { try layer($0[0]) })
      }
    }
    #expect(each == plain && whole == plain && nested == plain)
  }

  @Test("several inputs, of which some need no gradient")
  func checkpointInputs() throws {
    let x = try leaf([1, 2])
    let constant = try Tensor([Float(5), 7])
    let index = try Tensor([Int64(1), 0])
    let output = try checkpointed([constant, x, index]) { inputs in
      try (inputs[1] * inputs[0]).selecting(inputs[2]).squared()
    }
    try output.sum().backward()
    #expect(try #require(x.gradient).floats() == [50, 196])
    #expect(constant.gradient == nil)
    // Without any, and without recording, the closure simply runs.
    #expect(try !checkpointed([constant]) { try $0[0] * 2 }.requiresGradient)
    #expect(try withoutGradient { try !checkpointed([x]) { try $0[0] * 2 }.requiresGradient })
  }

  @Test("dropout drops the same elements in both runs, and the stream of random numbers goes on as without")
  func checkpointRandomState() throws {
    let x = try leaf(Array(repeating: 1, count: 200))
    func run(_ body: (Tensor) throws -> Tensor) throws -> [[Float]] {
      try RandomState.seed(5)
      let output = try body(x)
      let between = try Tensor.uniform([3])
      try output.sum().backward()
      let after = try Tensor.uniform([3])
      defer { try? x.setGradient(nil) }
      return [
        try output.floats(), try #require(x.gradient).floats(), try between.floats(), try after.floats(),
      ]
    }
    let plain = try run { try $0.dropout(0.5) }
    let again = try run { try checkpointed([$0]) { try $0[0].dropout(0.5) } }
    #expect(plain == again)
    #expect(plain[0] == plain[1])  // where the output was dropped, so is the gradient
  }

  @Test("errors of the closure come back as errors, from the first run, the second and nested ones")
  func checkpointErrors() throws {
    let x = try leaf([1])
    expectRefusal { _ = try checkpointed([x]) { _ in throw Refusal() } }

    var runs = 0
    func failing(on count: Int) -> ([Tensor]) throws -> Tensor {
      runs = 0
      return { inputs in
        runs += 1
        if runs == count { throw Refusal() }
        return try inputs[0] * 2
      }
    }
    let output = try checkpointed([x], failing(on: 2))
    let state = try RandomState.capture()
    expectRefusal { try output.backward() }
    #expect(try RandomState.capture() == state)
    #expect(runs == 2)

    // The inner one fails when it is run the third time: forward, the outer's second run, its own second run.
    let inner = failing(on: 3)
    let nested = try checkpointed([x]) { try checkpointed([$0[0] * 1], inner) * 3 }
    expectRefusal { try nested.backward() }
    #expect(runs == 3)

    // An error of the engine inside says what failed.
    let refused = try checkpointed([x]) { inputs in
      gradientIsRecorded ? try inputs[0] + Tensor.ones([2, 3]).matmul(.ones([2, 3])) : try inputs[0] * 1
    }
    do {
      try refused.backward()
      Issue.record("nothing was thrown")
    } catch {
      #expect("\(error)".contains("matmul") && "\(error)".contains("[2, 3]"), "\(error)")
    }

    // And everything works on.
    #expect(gradientIsRecorded)
    try x.setGradient(nil)
    try checkpointed([x]) { try $0[0] * 4 }.backward()
    #expect(try #require(x.gradient).floats() == [4])
  }

  // MARK: Custom gradients

  @Test("a custom gradient takes the place of the engine's")
  func customGradient() throws {
    let x = try leaf([1, 2, 3])
    let y = try leaf([4, 5, 6])
    let product = try withoutGradient { try x * y }
    let output = try withCustomGradient(product, inputs: [x, y]) { gradient in
      // Ten times the truth, to be seen.
      [try gradient * y * 10, try gradient * x * 10]
    }
    #expect(try output.floats() == [4, 10, 18])
    try (output * 2).sum().backward()
    #expect(try #require(x.gradient).floats() == [80, 100, 120])
    #expect(try #require(y.gradient).floats() == [20, 40, 60])
  }

  @Test("errors of a custom gradient come back as errors, as does a wrong count of gradients")
  func customGradientErrors() throws {
    let x = try leaf([1, 2])
    let value = try withoutGradient { try x * 2 }
    let output = try withCustomGradient(value, inputs: [x]) { _ in throw Refusal() }
    expectRefusal { try output.sum().backward() }
    for count in [0, 2] {
      let output = try withCustomGradient(value, inputs: [x]) { Array(repeating: $0, count: count) }
      do {
        try output.sum().backward()
        Issue.record("nothing was thrown")
      } catch {
        #expect("\(error)".contains("\(count) gradients for 1 inputs"), "\(error)")
      }
    }
    // Of another shape than the input.
    let misshapen = try withCustomGradient(value, inputs: [x]) { _ in [try Tensor.ones([3])] }
    #expect(throws: TorchError.self) { try misshapen.sum().backward() }
    // Inside a checkpoint, in the backward pass of its second run.
    let nested = try checkpointed([x]) { inputs in
      try withCustomGradient(withoutGradient { try inputs[0] * 2 }, inputs: inputs) { _ in throw Refusal() }
    }
    expectRefusal { try nested.sum().backward() }
    #expect(gradientIsRecorded)
  }

  // MARK: Memory

  @Test("a thousand steps leave no tensor and no closure behind")
  func leaks() throws {
    final class Witness {
      nonisolated(unsafe) static var alive = 0
      init() { Witness.alive += 1 }
      deinit { Witness.alive -= 1 }
    }
    let w = try leaf(Array(repeating: 0.1, count: 64), shape: [8, 8])
    func step(failing: Bool) throws {
      let x = try Tensor.ones([4, 8])
      let witness = Witness()
      let start = try x.matmul(w)
      let hidden = try checkpointed([start]) { inputs in
        try withExtendedLifetime(witness) { try inputs[0].dropout(0.1).matmul(w).silu() }
      }
      let scaled = try withCustomGradient(withoutGradient { try hidden * 2 }, inputs: [hidden]) { gradient in
        try withExtendedLifetime(witness) {
          if failing { throw Refusal() }
          return [try gradient * 2]
        }
      }
      do { try scaled.sum().backward() } catch { guard failing else { throw error } }
      try w.setGradient(nil)
      // Errors hold on to nothing either.
      _ = try? x.matmul(x)
    }
    for index in 0..<20 { try step(failing: index % 5 == 0) }
    let before = Engine.liveTensorCount
    for index in 0..<1000 { try step(failing: index % 5 == 0) }
    #expect(Engine.liveTensorCount == before)
    #expect(Witness.alive == 0)
  }

  // MARK: Random state

  @Test("a seed gives the same numbers, and a captured state goes on where it was")
  func randomState() throws {
    func numbers() throws -> [Float] {
      try Tensor.uniform([5]).floats() + Tensor.normal([5]).floats() + Tensor.ones([20]).dropout(0.3).floats()
    }
    try RandomState.seed(42)
    let first = try numbers()
    let state = try RandomState.capture()
    let second = try numbers()
    #expect(first != second)
    try RandomState.seed(42)
    #expect(try numbers() == first)
    _ = try numbers()
    _ = try numbers()
    try RandomState.restore(state)
    #expect(try numbers() == second)
    for seed: UInt64 in [0, 1, .max, 1 << 63] {
      try RandomState.seed(seed)
      let one = try numbers()
      try RandomState.seed(seed)
      #expect(try numbers() == one)
    }
    // torch.manual_seed(42); torch.rand(3)
    try RandomState.seed(42)
    let reference: [Float] = [0.8822692633, 0.9150039554, 0.3828637600]
    for (found, wanted) in zip(try Tensor.uniform([3]).floats(), reference) {
      #expect(abs(found - wanted) < 1e-6)
    }
  }

  @Test("a state that is none is refused, and the generator goes on")
  func badState() throws {
    let state = try RandomState.capture()
    for bytes in [[], [1, 2, 3], Array(state.dropLast()), [UInt8](repeating: 255, count: state.count)] {
      #expect(throws: TorchError.self) { try RandomState.restore(bytes) }
    }
    #expect(try RandomState.capture() == state)
  }
}
