#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// What the system raises when mapped memory has lost the file behind it: weights that another program truncates while
/// they are in use, or a paged optimizer's file on a disk that is full.
///
/// No code can go on from there. The process ends with a sentence; files are written aside and renamed, so that what was saved
/// stays as it was.
enum MappedFileFault {
  static func install() { signal(SIGBUS, explainAndExit) }
}

private let message: StaticString = """

  error: a file that is mapped into memory can no longer be read. Either a weight file (.safetensors, .gguf, .bin) was \
  truncated or replaced in place while it was in use, or the disk under TMPDIR or output_dir is full. Restore the file or \
  make room, and start again; after `graft train`, --resume goes on from the last checkpoint.

  """

private func explainAndExit(_: Int32) {
  _ = write(2, message.utf8Start, message.utf8CodeUnitCount)
  _exit(1)
}
