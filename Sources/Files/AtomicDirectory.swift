import Foundation

/// A folder of files that appears complete or not at all, for checkpoints and models of several files.
///
/// The files are written to a folder `NAME.tmp-…` beside the target. Then every file and folder is made durable (fsync),
/// and the new folder takes the target's place: by one atomic exchange where the operating system has it (Linux, macOS), otherwise by
/// two renames, between which a crash leaves the old folder as `NAME.old-…`; `recover` puts it back.
public enum AtomicDirectory {
  /// Lets `body` fill an empty folder, then puts that folder in the place of `url`.
  ///
  /// A folder that was there before is removed with *everything* in it once the new one is in place. When `body` throws or anything else
  /// fails, the old folder is untouched and the new one is removed.
  @discardableResult
  public static func write<R>(_ url: URL, _ body: (URL) throws -> R) throws -> R {
    let target = url.standardizedFileURL
    let parent = target.deletingLastPathComponent()
    let suffix = temporarySuffix()
    let fresh = parent.appendingPathComponent("\(target.lastPathComponent).\(suffix)", isDirectory: true)

    var status = stat()
    let exists = lstat(target.path, &status) == 0
    if exists, status.st_mode & S_IFMT != S_IFDIR {
      throw FileError(
        .mismatch, in: target, "there is a file or link where a folder is to be written",
        remedy: "Choose another name")
    }
    do { try FileManager.default.createDirectory(at: parent, withIntermediateDirectories: true) } catch {
      throw FileError(
        .inputOutput(errno: EIO), in: parent, "cannot create the folder: \(error.localizedDescription)",
        remedy: "Check the path and its permissions")
    }
    guard mkdir(fresh.path, 0o777) == 0 else { throw FileError(errno: errno, in: fresh, "create the folder") }
    do {
      let result = try body(fresh)
      try synchronizeTree(fresh)
      if exists {
        try replace(
          target, with: fresh,
          aside: parent.appendingPathComponent("\(target.lastPathComponent).old-\(suffix)"))
      } else {
        guard rename(fresh.path, target.path) == 0 else {
          throw FileError(errno: errno, in: target, "put the new folder in its place")
        }
        try synchronizeFolder(parent)
      }
      return result
    } catch {
      try? FileManager.default.removeItem(at: fresh)
      throw error
    }
  }

  /// Removes a folder with everything in it, so that a crash leaves it whole or a leftover that `recover` removes.
  public static func remove(_ url: URL) throws {
    let target = url.standardizedFileURL
    let parent = target.deletingLastPathComponent()
    let aside = parent.appendingPathComponent(
      "\(target.lastPathComponent).\(temporarySuffix())", isDirectory: true)
    guard rename(target.path, aside.path) == 0 else {
      throw FileError(errno: errno, in: target, "move the folder aside to remove it")
    }
    // Before the first file goes, the folder must be known by its new name.
    try synchronizeFolder(parent)
    do { try FileManager.default.removeItem(at: aside) } catch {
      throw FileError(
        .inputOutput(errno: EIO), in: aside, "cannot remove the folder: \(error.localizedDescription)",
        remedy: "Remove it by hand")
    }
  }

  /// Removes what a killed process left beside `url`: half-written `NAME.tmp-…` folders, and `NAME.old-…` folders, the newest of
  /// which is put back when `url` itself is missing.
  ///
  /// Leftovers of processes that still run are kept. Call it before reading or writing a series of checkpoints.
  public static func recover(_ url: URL) throws {
    let target = url.standardizedFileURL
    let parent = target.deletingLastPathComponent()
    let name = target.lastPathComponent
    guard let siblings = try? FileManager.default.contentsOfDirectory(atPath: parent.path) else { return }
    var changed = false
    for sibling in siblings.sorted() {
      let leftover = parent.appendingPathComponent(sibling)
      if let rest = sibling.dropping(prefix: "\(name).old-tmp-"), !ownerIsAlive(rest) {
        if access(target.path, F_OK) != 0 {
          guard rename(leftover.path, target.path) == 0 else {
            throw FileError(errno: errno, in: target, "put back the folder `\(sibling)`")
          }
        } else {
          try? FileManager.default.removeItem(at: leftover)
        }
        changed = true
      } else if let rest = sibling.dropping(prefix: "\(name).tmp-"), !ownerIsAlive(rest) {
        try? FileManager.default.removeItem(at: leftover)
        changed = true
      }
    }
    if changed { try synchronizeFolder(parent) }
  }

  /// Whether the process whose number begins `rest` (`PID-RANDOM`) runs. This process's own leftovers are in use.
  private static func ownerIsAlive(_ rest: Substring) -> Bool {
    guard let number = rest.split(separator: "-").first.flatMap({ pid_t($0) }), number > 0 else {
      return true
    }
    return kill(number, 0) == 0 || errno == EPERM
  }

  /// Puts `fresh` in the place of the existing folder `target` and removes the old one.
  private static func replace(_ target: URL, with fresh: URL, aside: URL) throws {
    let parent = target.deletingLastPathComponent()
    #if canImport(Darwin)
      let exchanged = renamex_np(fresh.path, target.path, UInt32(RENAME_SWAP)) == 0
    #else
      let exchanged = exchange(fresh, target)
    #endif
    if exchanged {
      try synchronizeFolder(parent)
      try? FileManager.default.removeItem(at: fresh)  // now the old one
      return
    }
    guard errno == EINVAL || errno == ENOSYS || errno == ENOTSUP else {
      throw FileError(errno: errno, in: target, "put the new folder in its place")
    }
    guard rename(target.path, aside.path) == 0 else {
      throw FileError(errno: errno, in: target, "move the old folder aside")
    }
    guard rename(fresh.path, target.path) == 0 else {
      let number = errno
      _ = rename(aside.path, target.path)
      throw FileError(errno: number, in: target, "put the new folder in its place")
    }
    try synchronizeFolder(parent)
    try? FileManager.default.removeItem(at: aside)
  }

  #if !canImport(Darwin)
    /// `renameat2` with RENAME_EXCHANGE, looked up at run time because Swift's Glibc module does not show it.
    private static func exchange(_ first: URL, _ second: URL) -> Bool {
      typealias Rename =
        @convention(c) (Int32, UnsafePointer<CChar>, Int32, UnsafePointer<CChar>, UInt32) -> Int32
      guard let symbol = dlsym(nil, "renameat2") else {
        errno = ENOSYS
        return false
      }
      let exchangeFlag: UInt32 = 2
      let rename = unsafeBitCast(symbol, to: Rename.self)
      return rename(AT_FDCWD, first.path, AT_FDCWD, second.path, exchangeFlag) == 0
    }
  #endif

  /// fsyncs every file and every folder under `folder`, the leaves first.
  private static func synchronizeTree(_ folder: URL) throws {
    let entries: [URL]
    do {
      entries = try FileManager.default.contentsOfDirectory(at: folder, includingPropertiesForKeys: nil)
    } catch {
      throw FileError(
        .inputOutput(errno: EIO), in: folder, "cannot list the folder: \(error.localizedDescription)",
        remedy: "Check the disk and the path, then try again")
    }
    for entry in entries {
      var status = stat()
      guard lstat(entry.path, &status) == 0 else {
        throw FileError(errno: errno, in: entry, "read the file's kind")
      }
      if status.st_mode & S_IFMT == S_IFDIR {
        try synchronizeTree(entry)
      } else if status.st_mode & S_IFMT == S_IFREG {
        let descriptor = open(entry.path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw FileError(errno: errno, in: entry, "open the file") }
        defer { close(descriptor) }
        guard fsync(descriptor) == 0 else {
          throw FileError(errno: errno, in: entry, "write the file to disk")
        }
      }
    }
    try synchronizeFolder(folder)
  }
}

extension String {
  fileprivate func dropping(prefix: String) -> Substring? {
    hasPrefix(prefix) ? dropFirst(prefix.count) : nil
  }
}
