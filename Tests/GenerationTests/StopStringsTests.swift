import Generation
import Testing

@Suite("Stop strings")
struct StopStringsTests {
  private func feed(_ pieces: [String], _ stops: [String]) -> (given: [String], stop: String?) {
    var scanner = StopStrings(stops)
    var given: [String] = []
    for piece in pieces {
      let (text, stop) = scanner.append(piece)
      given.append(text)
      if stop != nil { return (given, stop) }
    }
    given.append(scanner.finish())
    return (given, nil)
  }

  @Test("a stop string is found across pieces, and nothing of it is given out")
  func across() {
    let (given, stop) = feed(["one E", "N", "D two"], ["END"])
    #expect(given == ["one ", "", ""])
    #expect(stop == "END")
  }

  @Test("what only looked like a stop string is given out once that is clear")
  func almost() {
    let (given, stop) = feed(["a E", "NE", "NX", " E"], ["END"])
    #expect(given == ["a ", "EN", "ENX", " ", "E"])
    #expect(stop == nil)
  }

  @Test("a stop string that begins within an earlier attempt is found")
  func overlapping() {
    let (given, stop) = feed(["aab", "aab", "aac"], ["aabaac"])
    #expect(given.joined() == "aab")
    #expect(stop == "aabaac")
  }

  @Test("the stop string that begins first ends the text")
  func first() {
    let (given, stop) = feed(["x world hello"], ["hello", "wor"])
    #expect(given == ["x "])
    #expect(stop == "wor")
  }

  @Test("characters of several bytes are never torn")
  func unicode() {
    let (given, stop) = feed(["你", "好", "世界", "。"], ["世紀", "。"])
    #expect(given == ["你", "好", "世界", ""])
    #expect(stop == "。")
  }

  @Test("without stop strings all text passes at once")
  func none() {
    #expect(feed(["a", "b"], []).given == ["a", "b", ""])
  }
}
