/// The time that steps take, without evaluations and saving.
struct StepClock {
  private var started = ContinuousClock.now
  private var paused: ContinuousClock.Instant?
  private var excluded = Duration.zero
  private var startTokens = 0
  private var tokens = 0
  private var steps = 0

  mutating func start(tokens: Int) {
    started = .now
    excluded = .zero
    paused = nil
    startTokens = tokens
    self.tokens = tokens
    steps = 0
  }

  mutating func finishStep(tokens: Int) {
    self.tokens = tokens
    steps += 1
  }

  mutating func pause() { paused = .now }

  mutating func resume() {
    if let paused { excluded += paused.duration(to: .now) }
    paused = nil
  }

  var seconds: Double { (started.duration(to: .now) - excluded).inSeconds }
  var tokensPerSecond: Double { seconds > 0 ? Double(tokens - startTokens) / seconds : 0 }

  func secondsLeft(steps left: Int) -> Double? {
    steps > 0 ? seconds / Double(steps) * Double(max(left, 0)) : nil
  }
}

extension Duration {
  var inSeconds: Double { Double(components.seconds) + Double(components.attoseconds) * 1e-18 }
}
