import Foundation
import Synchronization

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// The last line of the terminal, which a progress bar redraws and messages go above of.
///
/// Everything that writes to the same stream goes through one value of this, so that a message never lands in the middle
/// of the bar. Where the stream is no terminal there is no bar, and messages are plain lines.
public final class StatusLine: Sendable {
  /// Whether the stream is a terminal whose last line can be redrawn.
  public let isTerminal: Bool
  /// Whether escape sequences for colour may be used.
  public let usesColor: Bool

  private let descriptor: Int32
  private let fixedWidth: Int?
  private let current = Mutex<String?>(nil)

  /// - Parameters:
  ///   - descriptor: the stream; 2 is standard error.
  ///   - usesColor: whether the user allows colour (`NO_COLOR` is not set); without a terminal there is none.
  ///   - isTerminal: whether it is a terminal; nil asks the system.
  ///   - width: columns; nil asks the system whenever a line is drawn, so that resizing needs no signal.
  public init(descriptor: Int32 = 2, usesColor: Bool = true, isTerminal: Bool? = nil, width: Int? = nil) {
    let isTerminal = isTerminal ?? (isatty(descriptor) == 1)
    self.descriptor = descriptor
    self.isTerminal = isTerminal
    self.usesColor = usesColor && isTerminal
    fixedWidth = width
  }

  /// Draws the line anew. Does nothing where there is no terminal.
  ///
  /// - Parameter line: makes the text for a number of columns; what does not fit is cut off.
  public func draw(_ line: (_ width: Int) -> String) {
    guard isTerminal else { return }
    // The last column stays free: writing there makes some terminals wrap.
    let width = max(10, self.width - 1)
    let text = String(line(width).prefix(width))
    current.withLock { current in
      current = text
      write("\r\(text)\u{1B}[K")
    }
  }

  /// Prints a line above the status line.
  public func print(_ message: String) {
    current.withLock { current in
      if let line = current {
        write("\r\u{1B}[K\(message)\n\(line)")
      } else {
        write(message + "\n")
      }
    }
  }

  /// Leaves the line as it is and goes on below it.
  public func end() {
    current.withLock { current in
      if current != nil { write("\n") }
      current = nil
    }
  }

  private var width: Int {
    if let fixedWidth { return fixedWidth }
    var size = winsize()
    return ioctl(descriptor, UInt(TIOCGWINSZ), &size) == 0 && size.ws_col > 0 ? Int(size.ws_col) : 80
  }

  /// Writes all of a text; a stream that was closed is not worth ending a run for.
  private func write(_ text: String) {
    var rest = Array(text.utf8)[...]
    while !rest.isEmpty {
      let count = rest.withUnsafeBytes { systemWrite(descriptor, $0.baseAddress, $0.count) }
      if count > 0 {
        rest = rest.dropFirst(count)
      } else if count < 0 && errno == EINTR {
        continue
      } else {
        return
      }
    }
  }
}

/// `write(2)`, which the method above hides.
private func systemWrite(_ descriptor: Int32, _ bytes: UnsafeRawPointer?, _ count: Int) -> Int {
  write(descriptor, bytes, count)
}
