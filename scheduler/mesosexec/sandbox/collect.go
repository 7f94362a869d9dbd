package sandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"millrace/scheduler/mask"
)

const (
	// pieceBytes is how much is asked for at once: what an agent gives at most.
	pieceBytes = 64 << 10
	// turnBytes is how much of a file is collected before others have their turn.
	turnBytes = 1 << 20
	// saveEvery is how old the state on the disk may become while the log grows. What was collected since is collected again after a restart.
	saveEvery = time.Second
)

// source is a file of a sandbox that is a part of the log. What was read of it is in the spool but for what masking holds back, and for part, a line
// without its end.
type source struct {
	name   string
	read   int64 // so many bytes of the file were read
	masked *mask.Stream
	part   []byte
}

// mark is how far the file is in the spool.
func (s *source) mark() mark {
	m := mark{Offset: s.read - int64(len(s.part))}
	if s.masked != nil {
		m.Offset -= int64(s.masked.Held())
		m.Covered = s.masked.Covered()
	}
	return m
}

// collector collects one attempt. It is for whoever holds the attempt.
type collector struct {
	k    *Keeper
	task Task
	mask *mask.Masker

	spool   *spool // nil before open
	sources []*source
	pulse   pulse
}

// open reads what is on the disk, unless that was done.
func (c *collector) open() error {
	if c.spool != nil {
		return nil
	}
	path, err := spoolPath(c.k.dir, c.task.Attempt)
	if err != nil {
		return err
	}
	s, err := openSpool(path)
	if err != nil {
		return err
	}
	c.spool, c.sources = s, nil
	for _, name := range c.task.Streams {
		at := s.Files[name]
		src := &source{name: name, read: at.Offset}
		if c.mask != nil {
			src.masked = mask.Resume(c.mask, at.Covered)
		}
		c.sources = append(c.sources, src)
	}
	return nil
}

// look collects what is new, and reports whether there was something, and whether there is more. A sandbox that is not there yet has nothing.
func (c *collector) look(ctx context.Context) (grown, more bool, err error) {
	if c.spool.Ended {
		return false, false, nil
	}
	var files map[string]fileInfo
	if len(c.sources) > 1 || c.task.Heartbeat > 0 {
		files, err = c.k.agents.list(ctx, &c.task)
		if errors.Is(err, errNoFile) {
			return false, false, nil
		}
		if err != nil {
			return false, false, err
		}
		c.beat(files)
	}
	for _, s := range c.sources {
		if c.spool.Full {
			break
		}
		size := int64(-1)
		if info, ok := files[s.name]; ok {
			size = info.Size
		} else if files != nil {
			continue
		}
		g, m, err := c.follow(ctx, s, size)
		grown, more = grown || g, more || m
		if err != nil {
			return grown, more, errors.Join(err, c.save(false))
		}
	}
	return grown, more, c.save(false)
}

// follow collects what a file has behind what was read; size is how large it is, -1 if that is not known.
func (c *collector) follow(ctx context.Context, s *source, size int64) (grown, more bool, err error) {
	if size < 0 || size != s.read {
		grown, more, err = c.drain(ctx, s, size, turnBytes)
		if err != nil {
			return grown, more, err
		}
	}
	if !grown && len(s.part) > 0 { // A line that does not go on is shown as it is.
		return true, more, c.take(s, nil, true)
	}
	return grown, more, nil
}

// drain reads a file up to size, -1 for its present end, or as much as most.
func (c *collector) drain(ctx context.Context, s *source, size, most int64) (grown, more bool, err error) {
	for n := int64(0); size < 0 || s.read != size; {
		if size >= 0 && size < s.read {
			if err := c.rotated(s); err != nil {
				return grown, false, err
			}
		}
		want := int64(pieceBytes)
		if size >= 0 {
			want = min(want, size-s.read)
		}
		data, now, err := c.k.agents.read(ctx, &c.task, s.name, s.read, want)
		if errors.Is(err, errNoFile) {
			return grown, false, nil
		}
		if err != nil {
			return grown, false, err
		}
		if size < 0 || now < s.read {
			size = now // Smaller than what was read: it is not the file that it was.
		}
		if len(data) == 0 {
			if now < s.read {
				continue
			}
			return grown, false, nil
		}
		s.read += int64(len(data))
		if err := c.take(s, data, false); err != nil {
			return grown, false, err
		}
		grown = true
		if n += int64(len(data)); n >= most || c.spool.Full {
			return grown, s.read < size, nil
		}
	}
	return grown, false, nil
}

// rotated goes on with a file that has become another one.
func (c *collector) rotated(s *source) error {
	if err := c.take(s, nil, true); err != nil {
		return err
	}
	if err := c.endMask(s); err != nil {
		return err
	}
	s.read = 0
	if c.mask != nil {
		s.masked = mask.NewStream(c.mask)
	}
	return c.say(s.name + " was cut or replaced on the agent, and what was not read of it before is missing")
}

// take puts data into the spool. Of several files it takes whole lines, so that they do not mix, unless it is to take all.
func (c *collector) take(s *source, data []byte, all bool) error {
	if len(s.part) > 0 {
		data = append(s.part, data...)
		s.part = nil
	}
	if !all && len(c.sources) > 1 && len(data) < pieceBytes {
		end := bytes.LastIndexByte(data, '\n') + 1
		s.part = slices.Clone(data[end:])
		data = data[:end]
	}
	if s.masked != nil && len(data) > 0 {
		data = s.masked.Next(nil, data)
	}
	return c.write(data)
}

// endMask puts what masking holds back into the spool. Nothing of the file follows.
func (c *collector) endMask(s *source) error {
	if s.masked == nil {
		return nil
	}
	return c.write(s.masked.End(nil))
}

// write puts text into the spool, as much as there is room for. If that goes wrong, the collector begins again with what is on the disk: what was read
// is read again.
func (c *collector) write(text []byte) error {
	if c.spool.Full || len(text) == 0 {
		return nil
	}
	room := c.k.opt.MaxLog - c.spool.Bytes
	full := int64(len(text)) > room
	if full {
		text = text[:room]
	}
	c.spool.dirty = true
	if err := c.spool.write(text); err != nil {
		c.spool = nil
		return err
	}
	if !full {
		return nil
	}
	c.spool.Full = true
	c.k.opt.Full(c.task.Attempt)
	return c.say(fmt.Sprintf("the log has reached %d bytes, and what follows is not kept", c.k.opt.MaxLog))
}

// say writes a line of our own into the log, which says why it is not whole.
func (c *collector) say(why string) error {
	why = c.mask.String(why)
	if c.spool.Missing == "" {
		c.spool.Missing = why
	}
	err := c.spool.writeLine("millrace: " + why)
	if err != nil {
		c.spool = nil
	}
	return err
}

// save writes the state, if it has changed and that is due, or now.
func (c *collector) save(now bool) error {
	s := c.spool
	if s == nil {
		return nil
	}
	for _, src := range c.sources {
		if m := src.mark(); s.Files[src.name] != m {
			s.Files[src.name], s.dirty = m, true
		}
	}
	if !now && (!s.dirty || time.Since(s.saved) < saveEvery) {
		return nil
	}
	return s.save()
}

// rest collects all that there is, and ends the log. Without the sandbox it ends with a line that says so.
func (c *collector) rest(ctx context.Context, files map[string]fileInfo, gone string) error {
	for _, s := range c.sources {
		info, ok := files[s.name]
		if ok && !c.spool.Full {
			if _, _, err := c.drain(ctx, s, info.Size, 1<<62); err != nil {
				return err
			}
		}
	}
	return c.end(gone)
}

// end ends the log with what is in memory.
func (c *collector) end(why string) error {
	for _, s := range c.sources {
		if err := c.take(s, nil, true); err != nil {
			return err
		}
		if err := c.endMask(s); err != nil {
			return err
		}
	}
	if why != "" {
		if err := c.say(why); err != nil {
			return err
		}
	}
	c.spool.Ended, c.spool.dirty = true, true
	return nil
}
