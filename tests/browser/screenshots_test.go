package browser_test

import (
	"bytes"
	"cmp"
	"image"
	"image/color"
	"image/png"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
)

// It takes the pictures of the documentation: make screenshots. With ALL_SCREENSHOTS
// it takes those in dark and on a phone, too, to look at.
func TestScreenshots(t *testing.T) {
	dir := os.Getenv("SCREENSHOTS")
	if dir == "" {
		t.Skip("SCREENSHOTS names no folder to write to")
	}
	orders := openOrders(t)
	for i, customer := range []string{"grace", "linus", "barbara", "ada"} {
		orders.click(`#order [type="reset"]`)
		orders.do(chromedp.SetValue(chromedp.CSS(`[name="customer"]`), customer),
			chromedp.SetValue(chromedp.CSS(`[name="sku"]`), []string{"tea", "coffee"}[i%2]),
			chromedp.SetValue(chromedp.CSS(`[name="quantity"]`), string(rune('2'+i))))
		orders.click("#order button")
		orders.waitFor("#orders li", customer)
	}
	orders.click("#orders li:nth-child(3) button")
	orders.waitFor("#orders li.cancelled", "cancelled")
	orders.click("#order button") // once more
	orders.waitFor("#order .said", "was not placed again")
	orders.expect("status of 422")
	orders.click("#import button")
	orders.waitFor("#import .said", "line 4")
	eval[int](orders, `(document.activeElement.blur(), 0)`)
	orders.pictures(dir, "orders", "main")

	for _, what := range troubles {
		orders.makeTrouble(what)
	}
	live := openLive(t, orders.site)
	live.waitFor("#suspicious li", "POST /trouble/call")
	live.click(`#suspicious button[aria-label*="POST /trouble/call"]`)
	live.waitFor("#timeline tbody tr", "POST payments.example")
	eval[int](live, `(document.activeElement.blur(), 0)`)
	orders.click(`[data-trouble="idle"]`)
	live.waitFor("#live li", "is idle")
	live.pictures(dir, "live", "#failures")
}

// pictures writes what can be seen of a page, from its top to the end of an element.
func (p *tab) pictures(dir, name, last string) {
	p.t.Helper()
	p.picture(filepath.Join(dir, name+".png"), last)
	if os.Getenv("ALL_SCREENSHOTS") == "" {
		return
	}
	p.scheme("dark")
	p.picture(filepath.Join(dir, name+"-dark.png"), last)
	p.phone()
	p.picture(filepath.Join(dir, name+"-dark-phone.png"), last)
	p.scheme("light")
	p.picture(filepath.Join(dir, name+"-phone.png"), last)
	p.desktop()
}

func (p *tab) picture(file, last string) {
	p.t.Helper()
	size := eval[[]float64](p, `(() => {
		const bottom = document.querySelector(`+quote(last)+`).getBoundingClientRect().bottom + scrollY;
		return [document.documentElement.clientWidth, Math.ceil(bottom) + 12];
	})()`)
	beyond := true
	shot := call(p, page.CaptureScreenshot, page.CaptureScreenshotParams{
		Clip: &page.Viewport{Width: size[0], Height: size[1], Scale: 1}, CaptureBeyondViewport: &beyond,
	})
	taken, err := png.Decode(bytes.NewReader(shot.Data))
	if err != nil {
		p.t.Fatal(err)
	}
	var small bytes.Buffer
	encoder := png.Encoder{CompressionLevel: png.BestCompression}
	if err := encoder.Encode(&small, paletted(taken)); err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(file, small.Bytes(), 0o644); err != nil {
		p.t.Fatal(err)
	}
}

// paletted returns the picture with the 256 colours that it has most of, and the
// nearest of them in place of all others: pages have few, but for the edges of letters.
// The file is then a third as large.
func paletted(from image.Image) image.Image {
	count := map[color.RGBA]int{}
	bounds := from.Bounds()
	at := func(x, y int) color.RGBA { return color.RGBAModel.Convert(from.At(x, y)).(color.RGBA) }
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			count[at(x, y)]++
		}
	}
	most := slices.SortedFunc(maps.Keys(count), func(a, b color.RGBA) int { return cmp.Compare(count[b], count[a]) })
	var palette color.Palette
	for _, c := range most[:min(256, len(most))] {
		palette = append(palette, c)
	}
	nearest := map[color.RGBA]uint8{}
	to := image.NewPaletted(bounds, palette)
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			c := at(x, y)
			i, known := nearest[c]
			if !known {
				i = uint8(palette.Index(c))
				nearest[c] = i
			}
			to.SetColorIndex(x, y, i)
		}
	}
	return to
}
