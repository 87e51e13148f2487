import Files
import Foundation
import TestSupport
import Testing

@Suite struct AtomicFileTests {
  @Test("a file appears on commit, with the permissions of the one it replaces")
  func commit() throws {
    try withTemporaryFolder { folder in
      let url = folder.appendingPathComponent("a.bin")
      try AtomicFile.write(Data("old".utf8), to: url)
      chmod(url.path, 0o600)
      let file = try AtomicFile(url)
      try file.write("new ")
      try file.write([UInt8](repeating: 65, count: 3 << 20))
      #expect(try String(contentsOf: url, encoding: .utf8) == "old")
      #expect(try listing(folder).count == 2)
      try file.commit()
      #expect(try Data(contentsOf: url).count == 4 + 3 << 20)
      #expect(try listing(folder) == ["a.bin"])
      var status = stat()
      #expect(stat(url.path, &status) == 0 && status.st_mode & 0o777 == 0o600)
    }
  }

  @Test("without a commit the old file stays and the temporary goes")
  func discard() throws {
    struct Interruption: Error {}
    try withTemporaryFolder { folder in
      let url = folder.appendingPathComponent("a.bin")
      try AtomicFile.write(Data("old".utf8), to: url)
      #expect(throws: Interruption.self) {
        try AtomicFile.write(url) { file in
          try file.write("half of the n")
          throw Interruption()
        }
      }
      do { _ = try AtomicFile(url) }
      #expect(try listing(folder) == ["a.bin"])
      #expect(try String(contentsOf: url, encoding: .utf8) == "old")
    }
  }

  @Test("a full disk is an error that leaves everything as it was")
  func limit() throws {
    try withTemporaryFolder { folder in
      let url = folder.appendingPathComponent("a.bin")
      try AtomicFile.write(Data("old".utf8), to: url)
      // The limit on file sizes fails a write just as a full disk does; other tests of this process write less.
      signal(SIGXFSZ, SIG_IGN)
      var old = rlimit()
      #if os(Linux)
        let resource = __rlimit_resource_t(RLIMIT_FSIZE.rawValue)
      #else
        let resource = RLIMIT_FSIZE
      #endif
      getrlimit(resource, &old)
      var small = rlimit(rlim_cur: 32 << 20, rlim_max: old.rlim_max)
      setrlimit(resource, &small)
      defer { setrlimit(resource, &old) }
      expectFileError(.inputOutput(errno: EFBIG), "nothing was overwritten") {
        try AtomicFile.write(Data(count: 40 << 20), to: url)
      }
      #expect(try listing(folder) == ["a.bin"])
      #expect(try String(contentsOf: url, encoding: .utf8) == "old")
    }
  }

  @Test("the beginning can be written over before the commit, and writing goes on at the end")
  func overwriting() throws {
    try withTemporaryFolder { folder in
      let url = folder.appendingPathComponent("a.bin")
      try AtomicFile.write(url) { file in
        try file.write("....body")
        try file.overwriteStart(Array("head".utf8))
        try file.write("tail")
      }
      #expect(try String(contentsOf: url, encoding: .utf8) == "headbodytail")
    }
  }

  @Test("folders that do not exist and targets that are no files are errors")
  func targets() throws {
    try withTemporaryFolder { folder in
      expectFileError(.notFound, "missing/a") {
        _ = try AtomicFile(folder.appendingPathComponent("missing/a"))
      }
      expectFileError(.mismatch, "regular") { _ = try AtomicFile(folder) }
      expectFileError(.mismatch, "regular") { _ = try AtomicFile(URL(fileURLWithPath: "/dev/full")) }
    }
  }
}

@Suite struct AtomicDirectoryTests {
  private func write(_ text: String, _ url: URL) throws { try Data(text.utf8).write(to: url) }

  @Test("a folder appears whole and replaces the old one whole")
  func replacing() throws {
    try withTemporaryFolder { folder in
      let target = folder.appendingPathComponent("checkpoint-1")
      try AtomicDirectory.write(target) { fresh in
        try write("1", fresh.appendingPathComponent("a"))
        try write("1", fresh.appendingPathComponent("only-old"))
        #expect(!FileManager.default.fileExists(atPath: target.path))
      }
      #expect(try listing(target) == ["a", "only-old"])
      try AtomicDirectory.write(target) { fresh in
        try FileManager.default.createDirectory(
          at: fresh.appendingPathComponent("sub"), withIntermediateDirectories: false)
        try write("2", fresh.appendingPathComponent("sub/b"))
        #expect(try listing(target) == ["a", "only-old"])
      }
      #expect(try listing(target) == ["sub"])
      #expect(try listing(folder) == ["checkpoint-1"])
    }
  }

  @Test("a failure leaves the old folder and nothing else")
  func failing() throws {
    struct Interruption: Error {}
    try withTemporaryFolder { folder in
      let target = folder.appendingPathComponent("c")
      try AtomicDirectory.write(target) { try write("1", $0.appendingPathComponent("a")) }
      #expect(throws: Interruption.self) {
        try AtomicDirectory.write(target) { fresh in
          try write("2", fresh.appendingPathComponent("a"))
          throw Interruption()
        }
      }
      #expect(try listing(folder) == ["c"])
      #expect(try String(contentsOf: target.appendingPathComponent("a"), encoding: .utf8) == "1")
      try write("x", folder.appendingPathComponent("file"))
      expectFileError(.mismatch, "file") {
        try AtomicDirectory.write(folder.appendingPathComponent("file")) { _ in }
      }
    }
  }

  @Test("a removed folder is gone with everything in it, and a missing one is an error")
  func removal() throws {
    let parent = FileManager.default.temporaryDirectory.appendingPathComponent("removal-\(UUID().uuidString)")
    defer { try? FileManager.default.removeItem(at: parent) }
    let folder = parent.appendingPathComponent("checkpoint-1")
    try FileManager.default.createDirectory(
      at: folder.appendingPathComponent("inner"), withIntermediateDirectories: true)
    try AtomicDirectory.remove(folder)
    #expect(try FileManager.default.contentsOfDirectory(atPath: parent.path).isEmpty)
    #expect(throws: FileError.self) { try AtomicDirectory.remove(folder) }
  }

  @Test("recovery puts back the old folder and removes half-written ones of dead processes")
  func recovery() throws {
    try withTemporaryFolder { folder in
      let target = folder.appendingPathComponent("c")
      // No process has this number: the largest that Linux gives is 2²².
      let dead = 99_999_999
      for name in ["c.old-tmp-\(dead)-x", "c.tmp-\(dead)-x", "c.tmp-\(getpid())-x", "other.tmp-\(dead)-x"] {
        try FileManager.default.createDirectory(
          at: folder.appendingPathComponent(name), withIntermediateDirectories: false)
      }
      try AtomicDirectory.recover(target)
      #expect(try listing(folder) == ["c", "c.tmp-\(getpid())-x", "other.tmp-\(dead)-x"])
    }
  }
}
