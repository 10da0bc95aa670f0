#include "devices/storage/image/disk_queue.hpp"

#include <fmt/format.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace viv {
namespace {

constexpr size_t most_pieces = 1024;  // of the host's, in one transfer

/// Host memory of a request's guest memory; false where that is not RAM (or ROM that is read).
bool find_pieces(const DiskRequest& request, std::vector<iovec>& out) {
    const auto intent =
        request.kind == DiskRequest::Kind::read ? GuestMemory::Intent::write : GuestMemory::Intent::read;
    out.clear();
    for (const DiskRequest::Piece& piece : request.pieces) {
        for (uint64_t done = 0; done < piece.size;) {
            const Gpa here = piece.base + done;
            const GuestMemory::Region* region = request.memory->find(here);
            if (!region) return false;
            const uint64_t size = std::min(piece.size - done, region->size - (here - region->base));
            const auto bytes = request.memory->window(here, size, intent);
            if (bytes.empty()) return false;
            if (!out.empty() && static_cast<std::byte*>(out.back().iov_base) + out.back().iov_len == bytes.data()) {
                out.back().iov_len += bytes.size();
            } else {
                out.push_back({bytes.data(), bytes.size()});
            }
            done += size;
        }
    }
    return true;
}

/// Guest memory that was read into has changed.
void note_writes(const DiskRequest& request) {
    if (request.kind != DiskRequest::Kind::read) return;
    for (const DiskRequest::Piece& piece : request.pieces) {
        for (uint64_t done = 0; done < piece.size;) {
            const Gpa here = piece.base + done;
            const GuestMemory::Region* region = request.memory->find(here);
            if (!region) break;
            const uint64_t size = std::min(piece.size - done, region->size - (here - region->base));
            request.memory->note_write(here, size);
            done += size;
        }
    }
}

uint64_t bytes_of(std::span<const iovec> pieces) {
    uint64_t sum = 0;
    for (const iovec& piece : pieces) sum += piece.iov_len;
    return sum;
}

std::string_view name_of(DiskRequest::Kind kind) {
    switch (kind) {
        case DiskRequest::Kind::read: return "read";
        case DiskRequest::Kind::write: return "write";
        case DiskRequest::Kind::flush: return "flush";
        case DiskRequest::Kind::discard: return "discard";
        case DiskRequest::Kind::write_zeros: return "write zeros";
    }
    return {};
}

}  // namespace

DiskWork::DiskWork(EventLoop& loop, GuestMemory& memory) : loop_(loop) {
    // Host memory goes right after this, and transfers under way know only that.
    memory.on_change([this] { settle(); });
}

void DiskWork::drain() {
    for (DiskQueue* queue : queues_) queue->drain();
}

void DiskWork::settle() {
    for (DiskQueue* queue : queues_) queue->settle();
}

size_t DiskWork::under_way() const {
    size_t sum = 0;
    for (const DiskQueue* queue : queues_) sum += queue->under_way();
    return sum;
}

DiskQueue::DiskQueue(std::unique_ptr<DiskImage> image, DiskWork* work, DiskWay way)
    : image_(std::move(image)), work_(work), way_(way), file_(image_->host_file()) {
    if (work_) work_->queues_.push_back(this);
}

DiskQueue::~DiskQueue() {
    if (work_) std::erase(work_->queues_, this);
    settle();
}

/// Opened when it is first needed: many disks never are.
void DiskQueue::open_host_queue() {
    if (host_) return;
    if (file_.fd < 0) {
        host_ = make_worker_queue(1);
    } else {
        if (way_ == DiskWay::automatic) host_ = make_uring_queue(depth);
        if (!host_ && way_ == DiskWay::automatic) {
            log_line(fmt::format("disk image '{}': the host refuses io_uring, so threads make its transfers", name()));
        }
        if (!host_) host_ = make_worker_queue(threads);
    }
    watch_ = work_->loop_.watch(host_->descriptor(), EventLoop::Ready::read, [this] {
        eventfd_t count = 0;
        static_cast<void>(eventfd_read(host_->descriptor(), &count));
        collect();
        tell();
    });
}

void DiskQueue::start(DiskRequest request, Done done) {
    if (!work_) {
        const DiskStatus status = run_now(request);
        note_writes(request);
        return done(status);
    }
    if (free_.empty()) free_.push_back(entries_.emplace_back(std::make_unique<Entry>()).get());
    Entry& entry = *free_.back();
    free_.pop_back();
    entry.request = std::move(request);
    entry.done = std::move(done);
    entry.status = DiskStatus::ok;
    entry.own_work = false;
    entry.error = 0;
    ++under_way_;
    if (!prepare(entry)) {
        finished_.push_back(&entry);
        return;
    }
    open_host_queue();
    ++at_host_;
    host_->start(entry);
}

bool DiskQueue::is_aligned(const Entry& entry) const {
    const uint64_t mask = file_.direct_alignment - 1;
    const auto odd = [mask](const iovec& piece) {
        return ((reinterpret_cast<uintptr_t>(piece.iov_base) | piece.iov_len) & mask) != 0;
    };
    return !(entry.request.offset & mask) && std::ranges::none_of(entry.pieces, odd);
}

/// Makes a request the host's work. False when it is done, or was refused: `status` says how.
bool DiskQueue::prepare(Entry& entry) {
    const DiskRequest& request = entry.request;
    HostTransfer& transfer = entry;
    const bool moves = request.kind == DiskRequest::Kind::read || request.kind == DiskRequest::Kind::write;
    const bool changes = request.kind != DiskRequest::Kind::read && request.kind != DiskRequest::Kind::flush;
    const auto ends = [&](DiskStatus status) {
        entry.status = status;
        return false;
    };
    transfer.pieces.clear();
    transfer.first_piece = 0;
    if (moves && !find_pieces(request, transfer.pieces)) return ends(DiskStatus::io_error);
    if (file_.fd < 0) {
        entry.own_work = true;
        transfer.kind = HostTransfer::Kind::call;
        transfer.work = [this, &entry] {
            entry.status = run_on(entry.request, entry.pieces);
            return 0;
        };
        return true;
    }
    if (changes && read_only()) return ends(DiskStatus::read_only);
    const uint64_t length = moves ? bytes_of(transfer.pieces) : request.length;
    if (request.kind == DiskRequest::Kind::flush) {
        if (!file_.flushes) return ends(DiskStatus::ok);
    } else if (length == 0) {
        return ends(DiskStatus::ok);
    } else if (request.offset > size() || length > size() - request.offset || size() % sector_size != 0 ||
               transfer.pieces.size() > most_pieces ||
               (request.kind == DiskRequest::Kind::write && request.offset < sector_size)) {
        // What is at the edge, or too scattered, is the image's to judge; what is at the front it looks into.
        settle();
        return ends(run_on(request, transfer.pieces));
    }
    transfer.fd = file_.fd;
    transfer.offset = request.offset;
    transfer.length = length;
    transfer.durable = request.durable && file_.flushes;
    switch (request.kind) {
        case DiskRequest::Kind::read: transfer.kind = HostTransfer::Kind::read; break;
        case DiskRequest::Kind::write: transfer.kind = HostTransfer::Kind::write; break;
        case DiskRequest::Kind::flush: transfer.kind = HostTransfer::Kind::sync; break;
        case DiskRequest::Kind::discard:
        case DiskRequest::Kind::write_zeros: transfer.kind = HostTransfer::Kind::punch; break;
    }
    if (moves && file_.direct >= 0 && is_aligned(entry)) transfer.fd = file_.direct;
    transfer.at_once = transfer.fd != file_.direct;
    if (changes) image_->note_host_write();
    return true;
}

/// Does a request in the caller's thread, through the image.
DiskStatus DiskQueue::run_now(const DiskRequest& request) {
    std::vector<iovec> pieces;
    const bool moves = request.kind == DiskRequest::Kind::read || request.kind == DiskRequest::Kind::write;
    if (moves && !find_pieces(request, pieces)) return DiskStatus::io_error;
    return run_on(request, pieces);
}

DiskStatus DiskQueue::run_on(const DiskRequest& request, std::span<const iovec> pieces) {
    uint64_t at = request.offset;
    auto status = DiskStatus::ok;
    switch (request.kind) {
        case DiskRequest::Kind::flush: return image_->flush();
        case DiskRequest::Kind::discard: return image_->discard(at, request.length);
        case DiskRequest::Kind::write_zeros: status = image_->write_zeros(at, request.length); break;
        case DiskRequest::Kind::read:
        case DiskRequest::Kind::write:
            for (const iovec& piece : pieces) {
                const std::span bytes(static_cast<std::byte*>(piece.iov_base), piece.iov_len);
                status = request.kind == DiskRequest::Kind::read ? image_->read(at, bytes) : image_->write(at, bytes);
                if (status != DiskStatus::ok) return status;
                at += bytes.size();
            }
            break;
    }
    return status == DiskStatus::ok && request.durable ? image_->flush() : status;
}

void DiskQueue::submit() {
    if (host_) host_->submit();
    collect();
    tell();
}

/// Takes what the host has finished.
void DiskQueue::collect() {
    if (!host_) return;
    while (HostTransfer* transfer = host_->reap()) {
        --at_host_;
        finished_.push_back(static_cast<Entry*>(transfer));
    }
}

void DiskQueue::settle() {
    while (at_host_ > 0) {
        host_->wait();
        collect();
    }
}

void DiskQueue::tell() {
    // A device that is told may start more, and submit() that.
    if (std::exchange(telling_, true)) return;
    while (!finished_.empty()) {
        while (!finished_.empty()) {
            Entry& entry = *finished_.front();
            finished_.pop_front();
            finish(entry);
        }
        if (told_) told_();
    }
    telling_ = false;
}

void DiskQueue::finish(Entry& entry) {
    const DiskRequest& request = entry.request;
    if (const int error = entry.error) {
        entry.status = disk_status_of(error);
        if (entry.kind == HostTransfer::Kind::punch && (error == EOPNOTSUPP || error == ENOSYS)) {
            // A host without holes: discarded bytes stay, zeros are written.
            settle();
            entry.status = request.kind == DiskRequest::Kind::discard ? DiskStatus::ok : run_on(request, {});
        } else {
            failures_.say(fmt::format("disk image '{}': cannot {} at byte {}: {}; the guest sees a disk error", name(),
                                      name_of(request.kind), request.offset, std::strerror(error)));
        }
    } else if (request.kind == DiskRequest::Kind::write_zeros && request.durable && !entry.own_work &&
               entry.status == DiskStatus::ok) {
        entry.status = flush();
    }
    note_writes(request);
    Done done = std::move(entry.done);
    const DiskStatus status = entry.status;
    free_.push_back(&entry);
    --under_way_;
    done(status);
}

void DiskQueue::drain() {
    if (!work_ || draining_) return;
    draining_ = true;
    while (at_host_ > 0 || !finished_.empty()) {
        settle();
        // Also from within a `done`: the others are told of in here.
        const bool outer = std::exchange(telling_, false);
        tell();
        telling_ = outer;
    }
    draining_ = false;
}

DiskStatus DiskQueue::read(uint64_t offset, std::span<std::byte> out) {
    settle();
    return image_->read(offset, out);
}

DiskStatus DiskQueue::write(uint64_t offset, std::span<const std::byte> in) {
    settle();
    return image_->write(offset, in);
}

DiskStatus DiskQueue::flush() {
    settle();
    return image_->flush();
}

DiskStatus DiskQueue::discard(uint64_t offset, uint64_t length) {
    settle();
    return image_->discard(offset, length);
}

DiskStatus DiskQueue::write_zeros(uint64_t offset, uint64_t length) {
    settle();
    return image_->write_zeros(offset, length);
}

Result<void> DiskQueue::grow(uint64_t size) {
    settle();
    return image_->grow(size);
}

}  // namespace viv
